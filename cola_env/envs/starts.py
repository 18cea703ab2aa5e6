"""Where an imagined episode begins: from the caller's reset options or from a goal pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalPair, GoalSet
from cola_env.goals.loading import load_goals
from cola_env.inputs import as_actions, as_array, as_frames, as_goals, check_index, real_actions
from cola_env.simulators.rendering import warn_if_unlike
from cola_env.worlds import OWN, WorldInfo

CONTEXT = 2
"""Real frames that imagination begins behind where nothing else is asked for, as VP2's planners
do."""


def behind(
    frames: Sequence[NDArray[np.uint8]],
    actions: Sequence[NDArray[np.float32]],
    goal: NDArray[np.uint8],
) -> dict[str, Any]:
    """Reset options of a dream that begins behind the last `CONTEXT` real frames.

    frames: of an episode up to now, (S, S, 3) each. actions: those between them, (A,) each.
    goal: (S, S, 3).
    """
    past = frames[-CONTEXT:]
    options: dict[str, Any] = {"frame": np.stack(past), "goal": goal}
    if len(past) > 1:
        options["actions"] = np.stack(actions[1 - len(past) :])
    return options


def find_pair(
    world: WorldInfo, task: str, rendering: str, index: Any, goals: str | Path | None = None
) -> GoalPair:
    """The goal pair `index` of a task, drawn with a rendering profile: of the shipped ones, or of
    the file `goals`.

    Raises ColaWorldError for a task or a profile without any, and for another index.
    """
    try:
        pairs = load_goals(rendering, goals, world)
    except ColaWorldError as error:
        if rendering == world.rendering or goals is not None:
            raise
        raise ColaWorldError(
            f"There are no goal pairs of {world.simulator} drawn with rendering={rendering!r}: "
            f"make it with {world.rendering!r}, or dream and twin with cola_env.make_pair."
        ) from error
    return choose_pair(pairs, task, index)


def choose_pair(goals: GoalSet, task: str, index: Any) -> GoalPair:
    """The pair `index` of a task; ColaWorldError where there is none."""
    pairs = goals.of(task)
    return pairs[check_index("options['pair']", index, len(pairs))]


@dataclass(frozen=True)
class Start:
    """Where one world begins.

    frames: uint8 (C, 64, 64, 3), the past up to now. goal: uint8 (64, 64, 3).
    actions: float32 (C - 1, A) between the frames, or None. seed: of the diffusion noise.
    """

    frames: Tensor
    goal: Tensor
    actions: Tensor | None
    seed: int


class Starts:
    """Draws the starts of one task of a world.

    rendering: profile of the shipped goal pairs. image_size: of all frames, in pixels.
    action_dim: of a model that needs the actions between several start frames, else None.
    goals: file of the goal pairs to draw from; None: the shipped ones.
    """

    def __init__(
        self,
        world: WorldInfo,
        task: str,
        rendering: str,
        image_size: int,
        action_dim: int | None,
        goals: str | Path | None = None,
    ) -> None:
        self.world = world
        self.task = task
        self.rendering = rendering
        self.image_size = image_size
        self.action_dim = action_dim
        self._goals = None if goals is None else load_goals(rendering, goals, world)
        if self._goals is not None:
            self._goals.of(task)

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any]) -> Start:
        """A start from the options "frame", "goal", "actions" and "pair", see ColaWorldEnv.

        What they leave open is one of the task's goal pairs, drawn with `rng`, as is the
        seed of the noise; in a world without them, the goal is the start frame. Raises
        ColaWorldError for images or actions of another shape and for a task without fitting pairs.
        """
        seed = int(rng.integers(2**31))
        images = {
            name: as_array(options[name], f"options['{name}']")
            for name in ("frame", "goal")
            if name in options
        }
        if "pair" in options and "frame" in options:
            raise ColaWorldError("Give options['pair'] or options['frame'], not both.")
        if self.world is OWN:
            images = self._own(images)
        if len(images) < 2:
            pair = self._pair(rng, options)
            images = {"frame": pair.initial_frame, "goal": pair.goal_frame} | images
        past = images["frame"]
        frames = as_frames(past if past.ndim == 4 else past[None], "frame", self.image_size, ("C",))
        goal = as_goals(images["goal"], self.image_size)
        return Start(frames, goal, self._actions(len(frames) - 1, options), seed)

    def warn_of_other_looks(self, options: Mapping[str, Any]) -> None:
        """Warns when options["frame"] or ["goal"] do not look like the shipped frames, which are of
        the model's rendering profile; where none of its size are shipped, nothing is known."""
        given = [name for name in ("frame", "goal") if name in options]
        if not given:
            return
        try:
            known = self._pairs().pairs[0].initial_frame
        except ColaWorldError:
            return
        for name in given:
            images = as_array(options[name], name)
            images = images * 255 if images.dtype.kind == "f" else images
            warn_if_unlike(images, known, f"options['{name}']", self.rendering)

    def _own(self, images: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if "frame" not in images:
            side = self.image_size
            raise ColaWorldError(
                "ColaWorld-Own-v0 has no shipped starts: give reset(options={'frame': ...}), uint8 "
                f"RGB ({side}, {side}, 3), or several as (C, {side}, {side}, 3)."
            )
        past = images["frame"]
        return {"goal": past[-1] if past.ndim == 4 else past} | images

    def _pair(self, rng: np.random.Generator, options: Mapping[str, Any]) -> GoalPair:
        if "pair" in options:
            return choose_pair(self._pairs(), self.task, options["pair"])
        pairs = self._pairs().of(self.task)
        return pairs[int(rng.integers(len(pairs)))]

    def _pairs(self) -> GoalSet:
        if self._goals is None:
            self._goals = load_goals(self.rendering, world=self.world)
        size = len(self._goals.pairs[0].initial_frame)
        if size != self.image_size:
            raise ColaWorldError(
                f"The starts and goals are of {size} px, this model's frames of "
                f"{self.image_size}: give reset(options={{'frame': ..., 'goal': ...}})."
            )
        return self._goals

    def _actions(self, count: int, options: Mapping[str, Any]) -> Tensor | None:
        if self.action_dim is None or count == 0:
            return None
        if "actions" not in options:
            raise ColaWorldError(
                "A direct model needs the actions between several start frames: pass "
                f"options['actions'] of shape ({count}, {self.action_dim}), or a single frame."
            )
        return as_actions(options["actions"], real_actions(self.action_dim), (count,))
