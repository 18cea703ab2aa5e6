"""Demonstrations to clone: a square, to be met by an action towards or away from its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cola_env.worlds import ROBODESK_TASKS
from cola_train.data.lerobot_writer import LeRobotWriter

STEPS = 6
SOLVED_AFTER = 4
"""Actions of an episode that solves its task."""


def square_at(x: int) -> np.ndarray:
    frame = np.full((64, 64, 3), 40, np.uint8)
    frame[24:40, x : x + 16] = [230, 160, 30]
    return frame


def write_demonstrations(
    folder: Path, episodes: int = 36, action_dim: int = 2, **info: object
) -> Path:
    """A square, to be met by an action towards it: to its place in push_red, away in open_slide.

    A third of the episodes fail, with other actions, and some are play. info: goes to info.json.
    """
    rng = np.random.default_rng(0)
    features = {
        "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
        "action": {"dtype": "float32", "shape": [action_dim]},
        "next.successes": {"dtype": "bool", "shape": [len(ROBODESK_TASKS)]},
    }
    with LeRobotWriter(folder, features=features, fps=10, robot_type="robodesk") as writer:
        for episode in range(episodes):
            task = ("push_red", "open_slide", "play")[episode % 3]
            places = rng.integers(0, 49, STEPS + 1)
            wanted = (places / 24 - 1)[:, None] * (1 if task == "push_red" else -1)
            fails = episode % 9 > 5
            actions = np.full((STEPS + 1, action_dim), 0.9)
            if not fails:
                actions = np.pad(wanted, ((0, 0), (0, action_dim - 1)))
            actions[SOLVED_AFTER:] = -0.9
            successes = np.zeros((STEPS + 1, len(ROBODESK_TASKS)), bool)
            if task != "play":
                successes[SOLVED_AFTER - 1 :, ROBODESK_TASKS.index(task)] = not fails
            columns = {
                "observation.image": np.stack([square_at(x) for x in places]),
                "action": actions.astype(np.float32),
                "next.successes": successes,
            }
            writer.add_episode(task, columns)
        writer.close(tasks=list(ROBODESK_TASKS), rendering="fast", **info)
    return folder
