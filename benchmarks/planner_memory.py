"""The peak memory of a plan under a cost of 16 MB a candidate, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import peak_resident
from planners import CEM

ROOT = Path(__file__).resolve().parents[1]


def memory() -> dict[str, Any]:
    """Without limits, and with a budget of 1 GB."""
    results: dict[str, Any] = {}
    plans = []
    for name, settings in {"unlimited": {}, "max_memory_gb=1": {"max_memory_gb": 1.0}}.items():
        command = [sys.executable, "-m", "benchmarks.planner_memory", json.dumps(settings)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout)
        plans.append(torch.tensor(results[name].pop("actions")))
    results["largest difference of the plans"] = float((plans[0] - plans[1]).abs().max())
    return results


def sixteen_megabytes(actions: Tensor) -> Tensor:
    """A cost (B, N) that takes them for each candidate."""
    _, _, horizon, dims = actions.shape
    copies = 4_000_000 // (horizon * dims)
    work = actions.flatten(2)[:, :, None].expand(-1, -1, copies, -1).contiguous()
    return work[:, :, 0].square().sum(-1)


def main(settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    space = SimpleNamespace(low=-torch.ones(5), high=torch.ones(5), shape=(5,))
    held = peak_resident()
    plan = CEM(horizon=15, num_samples=512, iterations=1, **settings).plan(sixteen_megabytes, space)
    found = {
        "gb": (peak_resident() - held) / 1e9,
        "seconds": plan.cost_seconds,
        "chunk": plan.chunk_size,
        "actions": plan.actions.flatten().tolist(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
