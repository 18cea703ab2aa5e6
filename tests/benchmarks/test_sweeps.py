"""A launcher's jobs, each a process of its own, become one results file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.merge import merge_results

ROOT = Path(__file__).resolve().parents[2]


def test_the_jobs_of_a_sweep_are_merged(goals_file: Path, tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra submitit")
    settings = [
        f"model=[tiny:{tiny_model},random]", f"goals={goals_file}", "tasks=[push_red]",
        "reward=mse", "episodes=1", "steps=2", "replan_every=1", "workers=1",
        "planner.num_samples=3", "planner.horizon=2", "planner.iterations=1",
    ]  # fmt: skip
    launcher = ["hydra/launcher=submitit_local", "hydra.sweep.dir=launcher", "seed=0,1"]
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.vp2", "-m", *launcher, *settings, "out=runs/${seed}"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
    rows = merge_results([tmp_path / "runs" / seed for seed in "01"])
    found = {(row["model"], row["seed"]) for row in rows if row["task"] == "push_red"}
    assert found == {("tiny", 0), ("tiny", 1), ("random", 0), ("random", 1)}
