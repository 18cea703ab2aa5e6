from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

import benchmarks
from benchmarks.make_goals import make_task
from cola_env.goals.goal_set import GoalSet
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import CommandSettings


@pytest.fixture(scope="session")
def goals() -> GoalSet:
    """Two scripted push_red problems in the fast profile."""
    return make_task("push_red", "fast", count=2, longest=4)


@pytest.fixture(scope="session")
def goals_file(goals, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("goals") / "fast.npz"
    goals.save(path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A checkpoint of an untrained model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    ColaWorldModel(conditioning="latent", rendering="fast").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def configure(goals_file, tiny_model) -> Callable[..., DictConfig]:
    """A tiny run's configuration, from its folder and further Hydra overrides."""

    def make(out: Path, *overrides: str) -> DictConfig:
        conf = Path(benchmarks.__file__).parent / "conf"
        return CommandSettings(conf, "vp2", ("planner",)).compose(
            [
                f"model=[tiny:{tiny_model},random]",
                f"goals={goals_file}",
                f"out={out}",
                "tasks=[push_red]",
                "reward=mse",
                "episodes=1",
                "steps=2",
                "replan_every=1",
                "planner.num_samples=3",
                "planner.horizon=2",
                "planner.iterations=1",
                "workers=1",
                *overrides,
            ]
        )

    return make
