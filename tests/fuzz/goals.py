"""Goal files: npz archives that are damaged, or whole and wrong."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cola_env import GoalPair, GoalSet, load_goals
from cola_env.worlds import ROBODESK_TASKS
from tests.fuzz.files import Files, bytes_of, damage, damaged, read_folder, written
from tests.fuzz.judge import Refused, check, check_finite, read
from tests.fuzz.values import made, mostly, numbers, scalars

SIDE = 64
NAMES = (
    "rendering", "action_repeat", "source", "world", "task", "initial_state", "goal_state",
    "actions", "expert_steps", "start_index", "seed", "images", "image_size",
)  # fmt: skip


@cache
def goals() -> Files:
    frames = np.random.default_rng(0).integers(0, 255, (2, 2, SIDE, SIDE, 3), np.uint8)
    pairs = tuple(
        GoalPair(
            task=task,
            initial_state=np.zeros(200),
            initial_frame=frames[i, 0],
            goal_state=np.ones(200),
            goal_frame=frames[i, 1],
            expert_actions=np.zeros((3 + i, 5), np.float32),
            start_index=0,
            seed=i,
        )
        for i, task in enumerate(("push_red", "open_slide"))
    )
    with tempfile.TemporaryDirectory() as folder:
        GoalSet("fast", 50, pairs).save(Path(folder, "fast.npz"))
        return read_folder(Path(folder))


@dataclass(frozen=True)
class Array:
    """An array of the archive set to `value`, or left out."""

    name: str
    value: Any
    drop: bool

    def apply(self, files: Files) -> Files:
        with np.load(io.BytesIO(files["fast.npz"])) as stored:
            arrays = {name: stored[name] for name in stored.files}
        arrays.pop(self.name)
        if not self.drop:
            arrays[self.name] = np.asarray(made(self.value))
        sink = io.BytesIO()
        np.savez(sink, **arrays)
        return files | {"fast.npz": sink.getvalue()}


@dataclass(frozen=True)
class GoalFile:
    changes: list[Any]
    rendering: Any = None
    world: Any = "robodesk"


arrays = st.builds(
    Array,
    st.sampled_from(NAMES),
    st.one_of(numbers((2, 200), ("float64",), 2), numbers((2,), ("int64",), 2), scalars),
    st.sampled_from([False, False, False, True]),
)
inputs = st.builds(
    GoalFile,
    damage(arrays, bytes_of("fast.npz")),
    mostly(st.sampled_from([None, "fast"]), scalars, 6),
    mostly(st.just("robodesk"), scalars, 6),
)


def attempt(file: GoalFile) -> bool:
    """Whether goals were read."""
    with written(damaged(goals(), file.changes)) as folder:
        found = read(load_goals, file.rendering, folder / "fast.npz", file.world)
    if isinstance(found, Refused):
        return False
    check(isinstance(found.action_repeat, int) and found.action_repeat > 0, "the action repeat")
    check(found.pairs, "a set without goals")
    for pair in found.pairs:
        check(pair.task in ROBODESK_TASKS, f"the task {pair.task[:40]!r}")
        check_finite(pair, "a pair")
        for frame in (pair.initial_frame, pair.goal_frame):
            check(frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3, "a frame")
        check(pair.initial_state.ndim == pair.goal_state.ndim == 1, "a state that is no vector")
        check(pair.initial_state.dtype == np.float64, f"states of {pair.initial_state.dtype}")
        check(pair.initial_state.shape == pair.goal_state.shape, "states of two sizes")
        actions = pair.expert_actions
        check(actions.ndim == 2 and actions.shape[1] == 5, f"actions of shape {actions.shape}")
        check(len(actions) > 0 and actions.dtype.kind == "f", "actions that are none")
        check(pair.start_index >= 0 and pair.seed >= 0, "a negative start_index or seed")
    return True
