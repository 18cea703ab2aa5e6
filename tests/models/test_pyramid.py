"""The picture that is put together from the one before."""

import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.models.pyramid import STAYS, Pyramid, composite, composite_channels, modulation_size
from cola_env.models.stdit import STDiTConfig
from cola_env.models.world_model import ColaWorldModel
from tests.models.small import small_model

FLOWS, SIDE = 2, 16


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def made_of(chosen: int, *, new: float = 0.0, right: float = 0.0) -> torch.Tensor:
    """Where the mask chooses one part alone: a flow, the unmoved picture, or the new pixels."""
    made = torch.zeros(2, composite_channels(3, FLOWS), SIDE, SIDE)
    made[:, :3] = new
    made[:, 3] = right * 4 / SIDE
    made[:, 3 + 2 * FLOWS + chosen] = 100.0
    return made


def test_a_picture_can_stay_move_and_be_painted(picture: torch.Tensor) -> None:
    stays = composite(made_of(FLOWS), picture, FLOWS)
    torch.testing.assert_close(stays, picture)
    moved = composite(made_of(0, right=3.0), picture, FLOWS)
    torch.testing.assert_close(moved[..., : SIDE - 3], picture[..., 3:])
    border = picture[..., -1:].expand(-1, -1, -1, 3)
    torch.testing.assert_close(moved[..., SIDE - 3 :], border)
    painted = composite(made_of(FLOWS + 1, new=0.25), picture, FLOWS)
    torch.testing.assert_close(painted, torch.full_like(picture, 0.25))
    brighter = made_of(FLOWS)
    brighter[:, -3:] = 0.1
    torch.testing.assert_close(composite(brighter, picture, FLOWS), picture + 0.1)


def test_half_precision_moves_nothing_elsewhere() -> None:
    """Pixel centres of 96 are no numbers of 8 bits."""
    picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    made = torch.zeros(1, composite_channels(3, FLOWS), 96, 96)
    made[:, 3 + 2 * FLOWS] = 100.0
    with torch.autocast("cpu", torch.bfloat16):
        stays = composite(made, picture, FLOWS)
    torch.testing.assert_close(stays, picture, atol=1e-4, rtol=0)


def test_what_the_masks_hide_can_still_change(picture: torch.Tensor) -> None:
    made = made_of(FLOWS, new=1.0).requires_grad_()
    composite(made, picture, FLOWS).sum().backward()
    assert made.grad is not None
    assert made.grad[:, :3].abs().max() < 1e-6 and (made.grad[:, -3:] == 1).all()


def test_masks_sum_to_one_and_favour_what_is_there(picture: torch.Tensor) -> None:
    nothing = torch.zeros(2, composite_channels(3, FLOWS), SIDE, SIDE)
    share = 1 / (FLOWS + 1 + torch.tensor(STAYS).exp())
    torch.testing.assert_close(composite(nothing, picture, FLOWS), (1 - share) * picture)


def test_features_halve_and_come_back() -> None:
    pyramid = Pyramid(6, 5, SIDE, (8, 16))
    torch.nn.init.normal_(pyramid.last[2].weight)
    images, modulation = torch.randn(3, 6, SIDE, SIDE), torch.zeros(3, modulation_size((8, 16)))
    features = pyramid.down(images, modulation)
    assert [tuple(level.shape[1:]) for level in features] == [(8, 8, 8), (16, 4, 4)]
    out = pyramid.up(features, torch.zeros_like(features[-1]), modulation)
    assert out.shape == (3, 5, SIDE, SIDE)
    changed = pyramid.up(features, torch.ones_like(features[-1]), modulation)
    assert not torch.allclose(out, changed)


def test_half_precision_stays_what_it_is() -> None:
    pyramid = Pyramid(6, 5, SIDE, (8, 16)).bfloat16()
    features = pyramid.down(torch.randn(3, 6, SIDE, SIDE), torch.zeros(3, modulation_size((8, 16))))
    out = pyramid.up(
        features, torch.zeros_like(features[-1]), torch.zeros(3, modulation_size((8, 16)))
    )
    assert out.dtype == torch.bfloat16


def model_of_pixels() -> ColaWorldModel:
    return small_model(
        image_size=32,
        autoencoder_config={"kind": "pixels"},
        stdit_config={
            "hidden_size": 32, "depth": 1, "num_heads": 2, "window": 4, "in_channels": 3,
            "input_size": 32, "channels": (8, 16), "flows": FLOWS,
        },
        idm_config={"in_channels": 3, "input_size": 32, "patch_size": 8, "hidden_size": 32,
                    "num_heads": 2},
        adapter_config={"convolutions": (3, 8, 8), "frame_size": 8 * 8 * 8},
    )  # fmt: skip


def test_a_frozen_world_model_offers_its_convolutions_to_the_action() -> None:
    model = model_of_pixels()
    torch.nn.init.normal_(model.stdit.pyramid.last[2].weight)
    for block in model.stdit.pyramid.after:
        torch.nn.init.normal_(block.leave[1].weight)
    modulation = model.conditioner.to_modulation[-1].requires_grad_(False)
    _, local = model.stdit.config.modulation_sizes
    modulation.weight[:-local] = 0
    modulation.weight[-local:].normal_()
    state = model.begin(torch.randint(0, 256, (1, 2, 32, 32, 3), dtype=torch.uint8))
    codes = torch.tensor([[[[0, 0]], [[1, 2]]]])
    first, other = model.rollout(state, codes, seed=0, action_mode="latent")[0]
    assert (first - other).abs().max() > 0.01


def test_a_model_of_pixels_needs_no_autoencoder() -> None:
    model = model_of_pixels()
    assert not hasattr(model, "autoencoder")
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8)
    latents = model.encode(frames)
    assert latents.shape == (2, 3, 3, 32, 32) and -1 <= latents.min() < latents.max() <= 1
    torch.testing.assert_close(model.decode(latents), frames.float() / 255)
    state = model.begin(frames)
    torch.testing.assert_close(model.frames(state), frames[:, -1])
    actions = torch.rand(2, 3, 2, 5) * 2 - 1
    first, other, _ = model.rollout(state, actions, seed=0)[0]
    assert not torch.equal(first, other), "the adapter sees action and frame"


def test_flows_and_kinds_that_cannot_be_are_refused() -> None:
    with pytest.raises(ColaWorldError, match=r"flows=2 needs residual=true and channels"):
        STDiTConfig(flows=2)
    with pytest.raises(ColaWorldError, match="give one of them"):
        STDiTConfig(channels=(8,), conv_channels=8)
    with pytest.raises(ColaWorldError, match="kind must be convolutions or pixels, not 'pixel'"):
        small_model(autoencoder_config={"kind": "pixel"})
    with pytest.raises(ColaWorldError, match="multiple of 32"):
        small_model(
            image_size=48,
            autoencoder_config={"kind": "pixels"},
            stdit_config={
                "channels": (8, 8, 8, 8),
                "in_channels": 3,
                "input_size": 48,
                "hidden_size": 32,
                "num_heads": 2,
            },
        )
