"""The mini model: imagined frames, dream steps and training steps a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.gpu_checks.sizes import Sizes, mini_model, one_shape
from benchmarks.model_steps import Budget, each_measured, training_step
from cola_env import ColaWorldVectorEnv
from cola_env.models.world_model import ColaWorldModel

Result = dict[str, Any]


def rollouts(sizes: Sizes, device: torch.device, budget: Budget, compiled: bool = False) -> Result:
    """Imagined frames a second over candidates and sampling steps, decoded."""
    model = mini_model(sizes, device)
    if compiled:
        sizes = one_shape(sizes)
        model.compile_repeated_blocks()
    state = model.begin(frames(model, 1, 2))
    shape = sizes.horizon, model.config.action_dim
    plans = torch.rand(1, max(sizes.candidates), *shape, device=device) * 2 - 1
    rows = []
    for steps in sizes.steps:

        def imagine(count: int, steps: int = steps) -> object:
            return model.rollout(state, plans[:, :count], seed=0, num_inference_steps=steps)

        for count, seconds in each_measured(sizes.candidates, imagine, device, budget).items():
            speed = count * sizes.horizon / seconds
            rows.append(
                {
                    "steps": steps,
                    "candidates": count,
                    "seconds": seconds,
                    "frames_per_second": speed,
                }
            )
    own = int(model.config.num_inference_steps)
    best = max(row["frames_per_second"] for row in rows if row["steps"] == sizes.steps[0])
    return {"own_steps": own, "frames_per_second": best, "rollouts": rows}


def dreams(sizes: Sizes, device: torch.device, budget: Budget) -> Result:
    """Steps a second of dreams side by side, with the reward "mse"."""
    model = mini_model(sizes, device)
    rng = np.random.default_rng(0)
    envs: dict[int, ColaWorldVectorEnv] = {}

    def step(worlds: int) -> None:
        if worlds not in envs:
            envs.clear()
            env = ColaWorldVectorEnv(
                worlds, world="own", checkpoint=model, device=device, reward="mse"
            )
            env.reset(seed=0, options={"frame": frames(model, 1, 1)[0, 0]})
            envs[worlds] = env
        shape = envs[worlds].action_space.shape
        assert shape is not None
        envs[worlds].step(rng.uniform(-1, 1, shape).astype(np.float32))

    found = each_measured(sizes.worlds, step, device, budget, repeats=10)
    rows = [
        {"worlds": worlds, "seconds": seconds, "steps_per_second": worlds / seconds}
        for worlds, seconds in found.items()
    ]
    return {"steps_per_second": max(row["steps_per_second"] for row in rows), "dreams": rows}


def training(sizes: Sizes, device: torch.device, budget: Budget, compiled: bool = False) -> Result:
    """End-to-end training steps a second, on clips as long as the model's window."""
    model = mini_model(sizes, device)
    if compiled:
        sizes = one_shape(sizes)
        model.compile_repeated_blocks()
    step = training_step(model, model.window, recompute=False)
    found = each_measured(sizes.clips, step, device, budget)
    rows = [
        {
            "clips": clips,
            "seconds": seconds,
            "steps_per_second": 1 / seconds,
            "clips_per_second": clips / seconds,
        }
        for clips, seconds in found.items()
    ]
    return {"clips_per_second": max(row["clips_per_second"] for row in rows), "training": rows}


def frames(model: ColaWorldModel, batch: int, count: int) -> torch.Tensor:
    """Random pictures (batch, count, S, S, 3) uint8."""
    side = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    shape = batch, count, side, side, 3
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
