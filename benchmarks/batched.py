"""Episodes an hour, many at a time against one: `python -m benchmarks.batched [key=value ...]`.

Plays the same problems with benchmarks/vp2.py's settings alternately in both ways: as vp2.py
does, batches planned for together while simulator processes step, and one episode after the other
with one simulator process. Loading the model is left out, starting the simulators is counted. Plans
are seeded by batch, so that episodes may end differently; successes are told beside the rates.
Writes OUT/batched.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cola_train.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

# The heavy imports are inside, because every simulator process imports this file again.


def play(config: DictConfig) -> dict[str, float]:
    """Plays a run from its start: how many episodes in how many seconds."""
    from benchmarks.vp2_protocol.run import Run

    with tempfile.TemporaryDirectory() as folder:
        run = Run(merge(config, {"out": folder}))
        start = time.perf_counter()
        run.play(lambda record: None)
        seconds = time.perf_counter() - start
        records = run.records()
    return {
        "episodes": len(records),
        "successes": sum(record.success for record in records),
        "seconds": seconds,
        "episodes_per_hour": 3600 * len(records) / seconds,
    }


def compare(config: DictConfig) -> dict[str, list[dict[str, float]]]:
    """What both ways did in every round."""
    single = merge(config, config.one_at_a_time)
    found: dict[str, list[dict[str, float]]] = {"one at a time": [], "batched": []}
    for _ in range(config.rounds):
        for way, settings in zip(found, (single, config), strict=True):
            found[way].append(play(settings))
            print(f"{way}: {found[way][-1]['episodes_per_hour']:.0f} episodes an hour", flush=True)
    return found


def merge(config: DictConfig, settings: Any) -> DictConfig:
    """``config`` with some of its settings changed."""
    from omegaconf import OmegaConf

    merged: DictConfig = OmegaConf.merge(config, settings)  # type: ignore[assignment]
    return merged


@command("batched")
def main(config: DictConfig) -> None:
    import torch

    from benchmarks.machine import processor
    from cola_env.files import write_text

    found = compare(config)
    best = {way: max(one["episodes_per_hour"] for one in played) for way, played in found.items()}
    results = {
        "command": " ".join(["python -m benchmarks.batched", *sys.argv[1:]]),
        "processor": processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "rounds": found,
        "ratio_of_best": best["batched"] / best["one at a time"],
    }
    file = Path(config.out) / "batched.json"
    write_text(file, json.dumps(results, indent=1) + "\n")
    print(f"Batched is {results['ratio_of_best']:.2f} times as fast: {file}")


if __name__ == "__main__":
    main()
