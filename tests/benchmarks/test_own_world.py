"""The commands of docs/own_world.md, in order and at toy size: from a class to a plan."""

import json
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from benchmarks.cli import COMMANDS
from cola_env.worlds import WORLDS
from tests.own_world import MODULE, commands, write_module
from tests.train.small import SMALL

pytest.importorskip("mujoco", reason="Reacher-v5 needs mujoco")

PHASES = ("autoencoder", "pretrain", "warm_up", "end_to_end", "adapter", "finetune")


def toy() -> dict[str, list[str]]:
    """What makes each command quick, by name."""
    parts = [
        (f"++model.{name}.{key}", value) for name, c in SMALL.items() for key, value in c.items()
    ]
    for phase in PHASES:
        short = {"steps": 2, "batch_size": 2, "lr_warmup": 1, "measured_clips": 8} | (
            {} if phase == "autoencoder" else {"clip": 4}
        )
        parts += [(f"++phases.{phase}.{key}", value) for key, value in short.items()]
    codes = ("continuous_steps", "restart_steps", "restart_every")
    parts += [(f"++phases.warm_up.{key}", 1) for key in codes]
    training = [
        f"{key}={list(v) if isinstance(v, tuple) else v}".replace(" ", "") for key, v in parts
    ]
    return {
        "collect": ["episodes=6", "workers=0", "mixture.steps=8", "held_out=0.34"],
        "train": training,
        "classifier": ["steps=2", "batch=8", "width=8", "held_out=0.34"],
        "goals": ["--pairs", "2", "--workers", "1"],
        "vp2": [
            "episodes=1",
            "steps=3",
            "planner.num_samples=4",
            "planner.iterations=1",
        ],
    }


@pytest.fixture
def started_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_module(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    sys.modules.pop(MODULE, None)
    WORLDS.pop("reach", None)
    for name in ("Reach-v0", "ColaWorld-Reach-v0"):
        gymnasium.registry.pop(name, None)


def test_the_documented_commands_lead_from_a_class_to_a_plan(
    started_there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    for command in commands():
        cola, name, *given = shlex.split(command)
        assert cola == "cola"
        monkeypatch.setattr(sys, "argv", [name, *given, *toy().get(name, [])])
        try:
            runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            assert not ended.code, command
        ran.append(name)
    assert ran[0] == "collect" and ran[-1] == "vp2"

    told = json.loads((started_there / "runs/vp2/results.json").read_text())
    rows = told if isinstance(told, list) else told["rows"]
    assert {row["model"] for row in rows} == {"cola", "random"}
    assert {row["task"] for row in rows} >= {"reach"}
    env = gymnasium.make(f"{MODULE}:ColaWorld-Reach-v0")
    frame, info = env.reset(seed=0)
    assert frame.shape == (64, 64, 3) and 0 <= info["success_probability"] <= 1
    imagined, *_ = env.step(env.action_space.sample())
    assert imagined.dtype == np.uint8 and env.action_space.shape == (2,)
