"""Planning problems: pairs of an initial simulator state and a goal image, some for every task.

The pairs are made by `python -m benchmarks.make_goals` from noise-free scripted successes in the
real simulator. As in VP2 (Tian et al., ICLR 2023) the goal image is the last frame of the
demonstration, and a demonstration that is too long for the step limit starts at a later
`start_index`.
"""

import lzma
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError, in_short
from cola_env.files import write_arrays
from cola_env.worlds import ROBODESK, find_world

OWN = "own"
FRAME = (64, 64, 3)


@dataclass(frozen=True, eq=False)
class GoalPair:
    """One planning problem and the scripted solution that proves that it can be solved.

    initial_state, goal_state: float64 (D,), of which the simulator's `to_snapshot` makes snapshots.
    initial_frame, goal_frame: uint8 RGB (64, 64, 3).
    expert_actions: float32 (expert_steps, A); replayed from initial_state they succeed at the
        last step, whose frame is goal_frame.
    start_index: steps of the demonstration that lie before initial_state.
    seed: the demonstration's reset seed.
    """

    task: str
    initial_state: NDArray[np.float64]
    initial_frame: NDArray[np.uint8]
    goal_state: NDArray[np.float64]
    goal_frame: NDArray[np.uint8]
    expert_actions: NDArray[np.float32]
    start_index: int
    seed: int

    @property
    def expert_steps(self) -> int:
        """Actions of the scripted solution."""
        return len(self.expert_actions)

    def fault(self, states: tuple[int, ...], action_dim: int) -> str | None:
        """What cannot be right, where states have the shape `states` and actions that size."""
        for name in ("initial_frame", "goal_frame"):
            frame = getattr(self, name)
            if frame.shape != FRAME or frame.dtype != np.uint8:
                return f"{name} is {frame.dtype} {frame.shape}, not uint8 {FRAME}"
        for name in ("initial_state", "goal_state", "expert_actions"):
            if not np.isfinite(getattr(self, name)).all():
                return f"{name} is not finite"
        if len(states) != 1 or {self.initial_state.shape, self.goal_state.shape} != {states}:
            return f"its states have other sizes than {states}"
        if self.expert_actions.shape != (self.expert_steps, action_dim):
            return f"expert_actions are {self.expert_actions.shape}, not (T, {action_dim})"
        if self.start_index < 0:
            return f"start_index is {self.start_index}"
        return None


@dataclass(frozen=True)
class GoalSet:
    """Goal pairs of several tasks, all rendered with one profile and one action repeat.

    world: name of the one that its states are of.
    source: "own" (made by `benchmarks.make_goals`) or "vp2" (VP2's files, comparable with tables
        that used them).
    """

    rendering: str
    action_repeat: int
    pairs: tuple[GoalPair, ...]
    source: str = OWN
    world: str = ROBODESK.name

    def __post_init__(self) -> None:
        """Raises ColaWorldError for content that cannot be right."""
        known = {*find_world(self.world).tasks, *find_world(self.world).goal_tasks}
        if alien := sorted({pair.task for pair in self.pairs} - known):
            raise ColaWorldError(
                f"{', '.join(alien)} is no task of env={self.world}; there are "
                f"{', '.join(sorted(known))}."
            )
        if self.action_repeat < 1 or not self.pairs:
            raise ColaWorldError(
                f"Goals need a positive action_repeat and a pair, not action_repeat="
                f"{self.action_repeat} and {len(self.pairs)} pairs."
            )
        actions = find_world(self.world).action_dim
        states = self.pairs[0].initial_state.shape
        for i, pair in enumerate(self.pairs):
            if wrong := pair.fault(states, actions):
                raise ColaWorldError(f"Pair {i}, of {pair.task}: {wrong}.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it has pairs of, in order."""
        return tuple(dict.fromkeys(pair.task for pair in self.pairs))

    def of(self, task: str) -> tuple[GoalPair, ...]:
        """The pairs of one task, in order; ColaWorldError when there are none."""
        found = tuple(pair for pair in self.pairs if pair.task == task)
        if not found:
            raise ColaWorldError(
                f"There are no goals for task '{task}'; choose one of {', '.join(self.tasks)}."
            )
        return found

    def save(self, path: Path) -> None:
        """Write one compressed npz, atomically."""
        frames = [frame for pair in self.pairs for frame in (pair.initial_frame, pair.goal_frame)]
        write_arrays(
            path,
            rendering=self.rendering,
            action_repeat=self.action_repeat,
            source=self.source,
            world=self.world,
            task=np.array([pair.task for pair in self.pairs]),
            initial_state=np.stack([pair.initial_state for pair in self.pairs]),
            goal_state=np.stack([pair.goal_state for pair in self.pairs]),
            actions=np.concatenate([pair.expert_actions for pair in self.pairs]),
            expert_steps=[pair.expert_steps for pair in self.pairs],
            start_index=[pair.start_index for pair in self.pairs],
            seed=[pair.seed for pair in self.pairs],
            images=_encode(frames),
            image_size=frames[0].shape[0],
        )

    @classmethod
    def load(cls, path: Path) -> "GoalSet":
        """Read what `save` wrote; ColaWorldError when the file is missing or damaged."""
        if not path.is_file():
            raise ColaWorldError(
                f"There is no goal file {path}; make one with 'cola goals --out {path}' "
                "(see its --help)."
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            count, steps = len(data["task"]), data["expert_steps"]
            for name in ("initial_state", "goal_state", "expert_steps", "start_index", "seed"):
                if len(data[name]) != count:
                    raise ValueError(f"{len(data[name])} of {name} for {count} pairs")
            if np.min(steps) < 0 or np.sum(steps) != len(data["actions"]):
                raise ValueError("the actions are not as many as expert_steps")
            frames = _decode(data["images"], int(data["image_size"]), 2 * count)
            actions = np.split(data["actions"], np.cumsum(steps)[:-1])
            pairs = tuple(
                GoalPair(
                    task=str(task),
                    initial_state=data["initial_state"][i],
                    initial_frame=frames[2 * i],
                    goal_state=data["goal_state"][i],
                    goal_frame=frames[2 * i + 1],
                    expert_actions=actions[i],
                    start_index=int(data["start_index"][i]),
                    seed=int(data["seed"][i]),
                )
                for i, task in enumerate(data["task"])
            )
            return cls(
                rendering=str(data["rendering"].item()),
                action_repeat=int(data["action_repeat"]),
                pairs=pairs,
                source=str(data.get("source", np.array(OWN)).item()),
                world=str(data.get("world", np.array(ROBODESK.name)).item()),
            )
        except Exception as error:  # whatever numpy makes of a file that is damaged
            told = in_short(error)
            raise ColaWorldError(
                f"The goal file {path} is damaged ({told}); copy it again or make a new one with "
                "'python -m benchmarks.make_goals'."
            ) from error


def merge(parts: Iterable[GoalSet]) -> GoalSet:
    """One set of the pairs of several sets of the same profile and action repeat."""
    sets = list(parts)
    if len({(part.world, part.rendering, part.action_repeat, part.source) for part in sets}) != 1:
        raise ColaWorldError(
            "Only goals of one world, rendering profile, action repeat and source can be merged."
        )
    return replace(sets[0], pairs=tuple(pair for part in sets for pair in part.pairs))


def _encode(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """All frames in one LZMA stream, which finds the desk that they share."""
    return np.frombuffer(lzma.compress(np.stack(frames).tobytes(), preset=9), np.uint8)


def _decode(data: NDArray[np.uint8], size: int, count: int) -> NDArray[np.uint8]:
    wanted = count * size * size * 3
    if size != FRAME[0]:
        raise ValueError(f"images of {size} pixels")
    found = lzma.LZMADecompressor().decompress(data.tobytes(), max_length=wanted + 1)
    return np.frombuffer(found, np.uint8).reshape(count, size, size, 3)
