"""Torch's own launcher starts trainings, which go on with another number of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cola_env.models.world_model import ColaWorldModel
from tests.train.runs import losses

ROOT = Path(__file__).resolve().parents[2]


def launch(processes: int, out: Path, accumulation: int, *more: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["-m", "tests.train.elastic", str(out), str(accumulation), *more]
    made = subprocess.run(
        [*torchrun, "--nproc-per-node", str(processes), *script],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]


def weights(out: Path) -> torch.Tensor:
    """Of the finished model, but for the codebook: rounding may choose what is restarted in it."""
    state = ColaWorldModel.from_pretrained(out / "end_to_end").state_dict()
    named = sorted(item for item in state.items() if not item[0].startswith("quantizer."))
    return torch.cat([tensor.flatten().float() for _, tensor in named])


def test_two_processes_share_out_the_weights_and_one_goes_on_with_them(tmp_path: Path) -> None:
    out = tmp_path / "run"
    launch(2, out, 1, "sharded")
    trained, history = weights(out), (out / "history.jsonl").read_text()
    (out / "checkpoints" / "end_to_end-00000002.pt").unlink()
    launch(1, out, 2)
    resumed = weights(out)
    assert (resumed - trained).norm() < 1e-3 * trained.norm()
    again = losses((out / "history.jsonl").read_text())
    assert again == pytest.approx(losses(history), rel=1e-3)
