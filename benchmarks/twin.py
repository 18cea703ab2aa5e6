"""A policy on planning problems, in the real simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from cola_env.worlds import WorldInfo

Act = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Gives the action float32 (A,) for a frame uint8 (S, S, 3); what leaves [-1, 1] is clipped."""


def make_twin(
    world: WorldInfo, task: str, rendering: str, steps: int, reward: Any = "success"
) -> gymnasium.Env[Any, Any]:
    """The simulator of one task, whose episodes end after `steps`."""
    return gymnasium.make(
        f"{world.simulator}-v0",
        task=task,
        rendering=rendering,
        action_repeat=world.action_repeat,
        reward=reward,
        max_episode_steps=steps,
    )


def solved_pairs(twin: gymnasium.Env[Any, Any], act: Act, pairs: int) -> list[bool]:
    """Whether the first `pairs` problems of a simulator with `PairReset` are solved."""
    found = []
    for pair in range(pairs):
        frame, _ = twin.reset(options={"pair": pair})
        success = truncated = False
        while not (success or truncated):
            frame, _, success, truncated, _ = twin.step(np.clip(act(frame), -1, 1))
        found.append(bool(success))
    return found
