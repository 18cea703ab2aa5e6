"""A controller is a list of phases; a phase moves the fingertips towards a target until done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cola_train.controllers.noise import CorrelatedNoise
from cola_train.controllers.robodesk.scene import REACH, Scene, Simulator
from cola_train.controllers.workspace import Vector

TURN = 0.6
"""Radians that the wrist turns in a step of a full action."""

STALL = 0.005
"""A hand that moves less than this in a step, in metres, is taken to be stuck or there."""

CLOSED, OPEN = -1.0, 1.0
"""Gripper actions."""


@dataclass(frozen=True)
class Phase:
    """Move the fingertips to `target(scene)` until `done(scene)`, or within `tolerance` of it.

    A phase also ends after `patience` steps and, unless it `presses`, when the hand is stuck.
    `level` turns the wrist until the fingers open sideways.
    """

    target: Callable[[Scene], Vector]
    done: Callable[[Scene], bool] | None = None
    tolerance: float = 0.02
    gripper: float = CLOSED
    level: bool = False
    presses: bool = False
    patience: int = 20

    def is_done(self, scene: Scene) -> bool:
        if self.done is not None:
            return self.done(scene)
        return bool(np.linalg.norm(self.target(scene) - scene.tip) < self.tolerance)

    def action(self, scene: Scene) -> np.ndarray:
        move = (self.target(scene) - scene.tip) / REACH
        wrist = scene.roll / TURN if self.level else 0.0
        return np.clip([*move, wrist, self.gripper], -1.0, 1.0)


@dataclass(frozen=True)
class Script:
    """What to do for a task: the phases in order, again and again, until it is once `solved`."""

    phases: Sequence[Phase]
    solved: Callable[[Scene], bool] = lambda scene: False


REST = Phase(lambda scene: np.array([0.0, 0.55, 1.0]))
"""Away from everything, in sight of the camera."""


class Controller:
    """Plays a script from the present state on, then moves to a resting place.

    Args:
        env: the simulator; its true state is read at every action.
        script: what to do.
        rng: source of the noise; not used when `noise` is 0.
        noise: standard deviation of the temporally correlated noise on the action.

    Attributes:
        scene: the true state.
        finished: whether the script has been gone through once; it is begun anew.
        picked: nothing has to be in the hand before a planning problem begins.
    """

    picked = True

    def __init__(
        self, env: Simulator, script: Script, rng: np.random.Generator, noise: float = 0.0
    ) -> None:
        self.scene = Scene(env)
        self.finished = False
        self._script = script
        self._noise = CorrelatedNoise(5, noise, rng) if noise > 0 else None
        self._index = 0
        self._steps = 0
        self._solved = False
        self._before = self.scene.tip

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return REST if self._solved else self._script.phases[self._index]

    def act(self) -> np.ndarray:
        """The action for the present state: float32 (5,) in [-1, 1]."""
        self._solved = self._solved or self._script.solved(self.scene)
        if not self._solved:
            self._choose_phase()
        self._steps += 1
        self._before = self.scene.tip
        action = self.phase.action(self.scene)
        if self._noise is not None:
            action = action + self._noise()
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _choose_phase(self) -> None:
        for _ in self._script.phases:
            if not self._is_over():
                break
            self._index = (self._index + 1) % len(self._script.phases)
            self._steps = 0
            self.finished = self.finished or self._index == 0

    def _is_over(self) -> bool:
        moved = float(np.linalg.norm(self.scene.tip - self._before))
        stuck = self._steps > 0 and moved < STALL and not self.phase.presses
        return stuck or self._steps >= self.phase.patience or self.phase.is_done(self.scene)
