"""The recipes of models of pixels, with few weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import cola_train.__main__ as cli
from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train import recipes
from cola_train.data.clips import Clips
from cola_train.data.episode_source import DamageReport
from tests.train.runs import CONF
from tests.train.small import moving_square

TINY = {
    "stdit_config": {"hidden_size": 32, "depth": 1, "num_heads": 2, "channels": [8, 8, 8]},
    "conditioner_config": {"hidden_size": 32, "num_heads": 2},
    "idm_config": {"hidden_size": 32, "depth": 1, "num_heads": 2},
    "adapter_config": {"hidden_size": 16, "blocks": 0},
}


def settings(recipe: str, out: Path, **changed: object) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("train", [f"recipe={recipe}", "data=none", f"out={out}"])
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.merge(config.model, TINY)
    for name in config.order:
        config.phases[name].update(steps=2, batch_size=2, lr_warmup=1, measured_clips=8)
    for name in ("warm_up", "latent_action_model"):
        config.phases[name].update(continuous_steps=1, restart_steps=1, restart_every=1)
    for name in config.order:
        config.phases[name].update(changed)
    return config


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> Clips:
    found = moving_square()
    sources = SimpleNamespace(
        fps=10.0, rendering="fast", action_dim=5, has_actions=True, damage_report=DamageReport(),
        split=lambda name, size: found, check_actions=lambda: None, other_rates=[],
    )  # fmt: skip
    monkeypatch.setattr(cli, "DataSources", lambda *_: sources)
    return found


@pytest.mark.parametrize(
    ("recipe", "mode"),
    [("joint_pixels", "real"), ("two_stage_pixels", "real"), ("direct_pixels", "direct")],
)
def test_the_recipes_run_to_a_model_that_dreams(
    recipe: str, mode: str, tmp_path: Path, clips: Clips
) -> None:
    config = settings(recipe, tmp_path / "run")
    cli.train(config)
    model = ColaWorldModel.from_pretrained(tmp_path / "run" / config.order[-1])
    assert model.stdit.config.flows == 4 and model.window == 4 and not hasattr(model, "autoencoder")
    frames = model.predict(clips.frames[:2, :2], clips.actions[:2, 1:4], action_mode=mode,
                           context_actions=clips.actions[:2, :1])  # fmt: skip
    assert frames.shape == (2, 3, 64, 64, 3) and torch.isfinite(frames).all()


def test_it_learns_to_move_what_its_actions_move(tmp_path: Path, clips: Clips) -> None:
    """More than what goes for the mean of all motions, in few steps on few clips."""
    config = settings("direct_pixels", tmp_path / "run")
    config.order = ["real_actions"]
    config.phases.real_actions.update(steps=150, batch_size=8, lr=3e-3, lr_warmup=10, ema_decay=0.9)
    cli.train(config)
    phase = recipes.make_phase(config, "real_actions")
    model = ColaWorldModel.from_pretrained(tmp_path / "run" / "real_actions")
    found = phase.evaluate(model, clips, phase.prepare(clips))
    assert found["own"] > found["copy"] + 1
    assert found["gap"] > 0.5


def test_an_impossible_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ColaWorldError, match=r"phases.pretrain.motion_threshold=-1"):
        recipes.make_phase(settings("joint_pixels", tmp_path, motion_threshold=-1), "pretrain")


def test_a_frozen_world_model_teaches_latent_actions(tmp_path: Path, clips: Clips) -> None:
    """The warm-up: codes that lead it, though it has never seen an action."""
    config = settings("joint_pixels", tmp_path / "run")
    config.order = ["pretrain", "warm_up"]
    for phase, steps in (("pretrain", 60), ("warm_up", 120)):
        config.phases[phase].update(steps=steps, batch_size=8, lr=3e-3, lr_warmup=10, ema_decay=0.9)
    config.phases.warm_up.update(continuous_steps=80, restart_steps=30, restart_every=10)
    cli.train(config)
    warm_up = recipes.make_phase(config, "warm_up")
    model = ColaWorldModel.from_pretrained(tmp_path / "run" / "warm_up")
    found = warm_up.evaluate(model, clips, warm_up.prepare(clips))
    assert found["gap"] > 0.5 and found["own"] > found["none"] + 0.5
