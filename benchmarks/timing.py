"""How long things take here."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds until ``device`` has done what ``function`` asks of it."""
    wait_for(device)
    start = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Until it has done what was asked of it so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(function: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Of ``repeats`` calls, after one that does not count."""
    timed(function, device)
    return median(timed(function, device) for _ in range(repeats))


def simulator_step(task: str, rendering: str, repeats: int) -> float:
    """Median seconds of one rendered step of the real RoboDesk under small random actions."""
    from cola_env.simulators.robodesk import RoboDeskEnv

    env = RoboDeskEnv(task, rendering=rendering)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = iter([env.action_space.sample() * 0.3 for _ in range(repeats + 1)])
    seconds = median_seconds(lambda: env.step(next(actions)), torch.device("cpu"), repeats)
    env.close()
    return seconds
