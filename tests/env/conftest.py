"""Tiny random checkpoints, a random classifier and two goal pairs, as a user would have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cola_env import ColaWorldEnv
from cola_env.goals.goal_set import GoalPair, GoalSet
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.success_classifier import SuccessClassifier
from tests.env.dream_cases import MODES


def make_model(
    conditioning: str,
    action_dim: int = 5,
    image_size: int = 64,
    rendering: str = "fast",
    **settings: Any,
) -> ColaWorldModel:
    """A very small world model without the zero starts, so that noise and actions both matter."""
    torch.manual_seed(0)
    network = {"hidden_size": 16, "num_heads": 2, "depth": 1, "window": 4}
    model = ColaWorldModel(
        action_dim=action_dim,
        conditioning=conditioning,
        image_size=image_size,
        rendering=rendering,
        num_inference_steps=2,
        autoencoder_config={"channels": (8, 8, 8)},
        stdit_config=network | {"input_size": image_size // 8},
        conditioner_config={
            "hidden_size": 16,
            "num_heads": 2,
            "num_layers": 1,
            "zero_start": False,
        },
        idm_config={"hidden_size": 16, "num_heads": 2, "depth": 1},
        adapter_config={"hidden_size": 16},
        **settings,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return model


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a "latent" and a "direct" model with classifiers/ beside them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for conditioning in ("latent", "direct"):
        make_model(conditioning).save_pretrained(folder / conditioning)
    torch.manual_seed(0)
    SuccessClassifier(width=8).save_pretrained(folder / "classifiers")
    return {name: folder / name for name in ("latent", "direct", "classifiers")}


@pytest.fixture(scope="session")
def libero_model() -> ColaWorldModel:
    """One of seven actions."""
    return make_model("latent", action_dim=7)


@pytest.fixture
def own_model() -> Callable[..., ColaWorldModel]:
    """own_model(conditioning, **settings): a model of other settings than the saved ones."""
    return make_model


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No episode ends by success: a random classifier would end them at random."""
    monkeypatch.setattr("cola_env.scoring.success_classifier.SuccessClassifier.threshold", 1.0)


@pytest.fixture
def image() -> Callable[..., np.ndarray]:
    """image(seed, size): a smooth coloured frame."""

    def draw(seed: int, size: int = 64) -> np.ndarray:
        coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        fine = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")[0]
        return (fine * 255).to(torch.uint8).permute(1, 2, 0).numpy()

    return draw


@pytest.fixture
def goals(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    image: Callable[..., np.ndarray],
) -> GoalSet:
    """Three goal pairs of push_red in the place of the shipped ones."""
    pairs = tuple(
        GoalPair(
            task="push_red",
            initial_state=np.zeros(3),
            initial_frame=image(2 * i),
            goal_state=np.ones(3),
            goal_frame=image(2 * i + 1),
            expert_actions=np.zeros((4, 5), np.float32),
            start_index=0,
            seed=i,
        )
        for i in range(3)
    )
    goals = GoalSet("fast", 50, pairs)
    assets = tmp_path_factory.mktemp("assets")
    goals.save(assets / "robodesk" / "goals" / "fast.npz")
    monkeypatch.setattr("cola_env.worlds.ASSETS", assets)
    return goals


@pytest.fixture
def make(checkpoints, never):
    def make_env(mode="direct", **kwargs):
        folder = checkpoints[MODES[mode]]
        return ColaWorldEnv(
            "push_red", checkpoint=folder, device="cpu", **({"action_mode": mode} | kwargs)
        )

    return make_env
