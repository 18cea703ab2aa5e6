"""The recipes of the size `small` train on frames of 128 px, in a network of fewer weights."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import cola_train.__main__ as cli
from cola_env.models.sizes import SMALL
from cola_env.models.world_model import ColaWorldModel
from cola_train import recipes
from cola_train.data.clips import Clips
from cola_train.data.episode_source import DamageReport
from tests.train.runs import CONF

TINY = {
    "autoencoder_config": {"channels": [8, 8, 8], "decoder_blocks": 1},
    "stdit_config": {
        "hidden_size": 32, "depth": 1, "num_heads": 2, "conv_channels": 8, "window": 4,
    },
    "conditioner_config": {"hidden_size": 32, "num_heads": 2},
    "idm_config": {"hidden_size": 32, "depth": 1, "num_heads": 2},
    "adapter_config": {"hidden_size": 16, "blocks": 0},
}  # fmt: skip
"""What is smaller than `small`; its frames, latents and tokens are as they are."""


def composed(recipe: str, out: Path | str = "none") -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("train", [f"recipe={recipe}", "data=none", f"out={out}"])


def settings(recipe: str, out: Path) -> DictConfig:
    config = composed(recipe, out)
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.merge(config.model, TINY)
    for name in config.order:
        config.phases[name].update(steps=2, batch_size=2, clip=4, lr_warmup=1, measured_clips=8)
    config.phases.warm_up.update(continuous_steps=1, restart_steps=1, restart_every=1)
    return config


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> Clips:
    """What a training reads: four episodes of noise."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (4, 5, 128, 128, 3), dtype=torch.uint8, generator=generator)
    found = Clips(frames, torch.rand(4, 4, 5, generator=generator) * 2 - 1)
    sources = SimpleNamespace(
        fps=10.0, rendering="fast", action_dim=5, has_actions=True, damage_report=DamageReport(),
        split=lambda name, size: {128: found}[size], check_actions=lambda: None, other_rates=[],
    )  # fmt: skip
    monkeypatch.setattr(cli, "DataSources", lambda *_: sources)
    return found


@pytest.mark.parametrize(("recipe", "mode"), [("joint_small", "real"), ("direct_small", "direct")])
def test_every_phase_trains_what_it_names_and_the_model_dreams(
    recipe: str, mode: str, tmp_path: Path, clips: Clips
) -> None:
    config = settings(recipe, tmp_path / "run")
    cli.train(config)
    models = [ColaWorldModel.from_pretrained(tmp_path / "run" / name) for name in config.order]
    for before, after, name in zip(models, models[1:], config.order[1:], strict=False):
        changed = {
            key.partition(".")[0]
            for key, value in after.state_dict().items()
            if not torch.equal(value, before.state_dict()[key])
        }
        assert changed and changed <= set(config.phases[name].learns), name
    assert models[-1].stdit.pos_embed.shape[0] == 64
    frames = models[-1].predict(clips.frames[:1, :1], clips.actions[:1, :3], action_mode=mode)
    assert frames.shape[-3:] == (128, 128, 3) and torch.isfinite(frames).all()


@pytest.mark.parametrize("kind", ["joint", "direct"])
def test_a_small_recipe_is_the_mini_one_but_for_its_numbers(kind: str) -> None:
    small, mini = composed(f"{kind}_small"), composed(f"{kind}_mini")
    assert small.order == mini.order and small.model == mini.model
    for name in small.order:
        here, there = small.phases[name], mini.phases[name]
        differing = {key for key in {*here, *there} if here.get(key) != there.get(key)}
        assert differing <= {"steps", "batch_size", "lr", "continuous_steps", "restart_steps"}
        assert recipes.make_phase(small, name).batch_size == 64


def test_its_parts_fit_its_frames() -> None:
    side = SMALL["image_size"] // 8
    assert SMALL["stdit_config"]["input_size"] == SMALL["idm_config"]["input_size"] == side
    channels = SMALL["autoencoder_config"]["latent_channels"]
    assert SMALL["adapter_config"]["frame_size"] == channels * side**2
