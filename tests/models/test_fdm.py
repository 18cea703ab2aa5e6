"""The forward dynamics model of the two-stage baseline."""

import torch

from cola_env.models.latent_action.fdm import FDMConfig, ForwardDynamicsModel
from cola_env.models.world_model import ColaWorldModel


def small(residual: bool = True) -> ForwardDynamicsModel:
    torch.manual_seed(0)
    config = FDMConfig(image_size=16, hidden_size=32, depth=1, num_heads=2, residual=residual)
    return ForwardDynamicsModel(config, token_size=8)


def test_a_prediction_depends_on_its_own_frame_and_action_only() -> None:
    frames = torch.rand(2, 3, 16, 16, 3, requires_grad=True)
    actions = torch.randn(2, 3, 2, 8, requires_grad=True)
    out = small()(frames, actions)
    assert out.shape == frames.shape
    for gradient in torch.autograd.grad(out[0, 1].sum(), (frames, actions)):
        touched = gradient.flatten(2).abs().sum(-1) > 0
        assert touched.nonzero().tolist() == [[0, 1]]


def test_patches_come_back_where_they_were() -> None:
    model = small()
    torch.nn.init.zeros_(model.out[1].weight)
    torch.nn.init.zeros_(model.out[1].bias)
    frames = torch.rand(1, 2, 16, 16, 3)
    torch.testing.assert_close(model(frames, torch.randn(1, 2, 2, 8)), frames)


def test_only_a_model_that_asks_for_it_has_one_and_it_can_be_left_behind(tmp_path) -> None:
    sizes = {"stdit_config": {"hidden_size": 32, "depth": 1, "num_heads": 2}}
    sizes |= {"conditioner_config": {"hidden_size": 32, "num_heads": 2}}
    assert not hasattr(ColaWorldModel(**sizes), "fdm")
    model = ColaWorldModel(**sizes, fdm_config={"hidden_size": 32, "depth": 1, "num_heads": 2})
    model.save_pretrained(tmp_path)
    loaded = ColaWorldModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.fdm.patch_in.weight, model.fdm.patch_in.weight)
    without = ColaWorldModel.from_pretrained(tmp_path, fdm_config=None)
    assert not hasattr(without, "fdm")
    assert torch.equal(without.idm.embed.weight, model.idm.embed.weight)
