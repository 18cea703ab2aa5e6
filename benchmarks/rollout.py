"""How fast a world model imagines candidates: `python -m benchmarks.rollout [key=value ...]`.

One run compares, on the same weights and the same candidates: the teacher's sampler as Open-Sora's
own loop runs it (many guided steps over whole sequences, nothing cached); the same behind a cached
past; and the fast sampler of the checkpoint. Their ratios are what caching and batching buy, and
what fewer evaluations buy. Writes OUT/rollout.json and OUT/rollout.png, prints a table.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.machine import machine, matmul_peak, memory_bandwidth
from benchmarks.plain_sampler import plain_rollout
from benchmarks.rollout_costs import count_costs, peak_memory
from benchmarks.rollout_report import draw, tell
from benchmarks.timing import simulator_step, timed
from cola_env.checkpoints import load_model, pick_device
from cola_env.errors import ColaWorldError
from cola_env.files import write_text
from cola_env.models.sizes import PAPER
from cola_env.models.world_model import ColaWorldModel
from cola_train.command import command

Rollout = Callable[[], Tensor]


def build(config: DictConfig) -> ColaWorldModel:
    if config.model != "paper":
        return load_model(config.model, config.device)
    torch.manual_seed(0)
    device = pick_device(config.device)
    with torch.device(device):
        model = ColaWorldModel(**PAPER)
    return model.to(torch.bfloat16).eval()


def contestants(model: ColaWorldModel, config: DictConfig) -> dict[str, Rollout]:
    """Name -> the imagination of one problem's candidates, (1, N, H, S, S, 3)."""
    generator = torch.Generator().manual_seed(0)
    size = model.config.image_size
    frames = torch.randint(0, 256, (1, config.context, size, size, 3), generator=generator)
    frames = frames.to(torch.uint8)
    shape = (1, config.samples, config.horizon, model.config.action_dim)
    actions = (torch.rand(shape, generator=generator) * 2 - 1).to(model.device)
    together = not model.sees_frames("real")

    def cached(steps: int | None, scale: float | None, at_once: bool) -> Rollout:
        return lambda: model.rollout(
            model.begin(frames),
            actions,
            num_inference_steps=steps,
            guidance_scale=scale,
            seed=0,
            together=at_once,
        )

    teacher = {"num_inference_steps": config.steps, "guidance_scale": config.guidance, "seed": 0}
    found: dict[str, Rollout] = {
        "plain": lambda: plain_rollout(model, frames, actions, **teacher),
        "cached": cached(config.steps, config.guidance, False),
    }
    if together:
        found["cached, together"] = cached(config.steps, config.guidance, True)
    found["cached, without guidance"] = cached(config.steps, 1.0, together)
    found["fast"] = cached(config.fast_steps, config.fast_guidance, False)
    return found


def measure(
    rollout: Rollout, frames: int, config: DictConfig, device: torch.device
) -> dict[str, float]:
    """Median seconds of a rollout, and what it computes and moves."""
    costs = count_costs(rollout)
    seconds = statistics.median(timed(rollout, device) for _ in range(config.repeats))
    return {
        "seconds": seconds,
        "frames_per_second": frames / seconds,
        "tflop": costs.flops / 1e12,
        "gigabytes_moved": costs.moved_bytes / 1e9,
        "flop_per_second": costs.flops / seconds,
    }


def timings(config: DictConfig) -> dict[str, Any]:
    """All but the memory, which other processes measure when this model is gone."""
    step = simulator_step("push_red", "fast", 10 * config.repeats) if config.simulator else None
    model = build(config)
    device, frames = model.device, config.samples * config.horizon
    table = {}
    for name, rollout in contestants(model, config).items():
        table[name] = measure(rollout, frames, config, device)
        print(f"{name}: {table[name]['frames_per_second']:.1f} frames/s", flush=True)
    if config.compile:
        model.compile_repeated_blocks()
        rollout = contestants(model, config)["fast"]
        warm_up = [timed(rollout, device) for _ in range(2)][0]
        table["fast, compiled"] = {
            **table["fast"],
            "seconds": (seconds := statistics.median(timed(rollout, device) for _ in range(3))),
            "frames_per_second": frames / seconds,
            "flop_per_second": table["fast"]["tflop"] * 1e12 / seconds,
            "warm_up_seconds": warm_up,
        }
    rate = {name: row["frames_per_second"] for name, row in table.items()}
    ratios = {
        "caching_at_equal_steps": max(rate["cached"], rate.get("cached, together", 0))
        / rate["plain"],
        "fewer_evaluations": rate["fast"] / max(rate["cached"], rate.get("cached, together", 0)),
        "fast_over_plain": rate["fast"] / rate["plain"],
    }
    if step:
        ratios["simulator_step_over_frame"] = step * rate["fast"]
    return {
        "command": " ".join(["python -m benchmarks.rollout", *sys.argv[1:]]),
        "machine": {
            **machine(device),
            "matmul_flop_per_second": matmul_peak(device),
            "bytes_per_second": memory_bandwidth(device),
        },
        "sizes": {
            key: config[key] for key in ("samples", "horizon", "context", "steps", "guidance")
        },
        "contestants": table,
        "ratios": ratios,
    }


@command("rollout")
def main(config: DictConfig) -> None:
    file, picture = Path(config.out) / "rollout.json", Path(config.out) / "rollout.png"
    try:
        found = timings(config)
    except RuntimeError as error:  # no OpenGL, or no memory
        raise ColaWorldError(str(error)) from error
    write_text(file, json.dumps(found, indent=1) + "\n")
    tell(found)
    found["memory"] = peak_memory(config)
    write_text(file, json.dumps(found, indent=1) + "\n")
    draw(found, picture)
    print(f"Results: {file}, picture: {picture}")


if __name__ == "__main__":
    main()
