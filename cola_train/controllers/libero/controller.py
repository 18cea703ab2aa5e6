"""A script is a list of phases; a phase moves the hand, pointing down, to a place until done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cola_train.controllers.libero.scene import Scene, Simulator
from cola_train.controllers.noise import CorrelatedNoise
from cola_train.controllers.workspace import Vector

SHIFT, TURN = 0.05, 0.5
"""Metres and radians that an action of 1 asks the hand to go ahead of where it is."""

GAIN = 2.0
"""How much farther ahead than the target a target is asked for: the hand lags behind."""

TURN_SPEED = 0.11
"""Radians that the hand turns in a control step of a held action of 1."""

OPEN, CLOSED = -1.0, 1.0
"""Gripper actions."""

DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""The hand's axes when it points down and the fingers open along y."""


def turned(angle: float) -> np.ndarray:
    """The axes of a hand that points down, turned by `angle` about the vertical."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ DOWN


def rotation_vector(rotation: np.ndarray) -> Vector:
    """Axis times angle of a rotation matrix by less than pi."""
    axis = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = float(np.linalg.norm(axis)) / 2
    angle = np.arctan2(sine, (np.trace(rotation) - 1) / 2)
    return axis / 2 if sine < 1e-9 else axis * angle / (2 * sine)


@dataclass(frozen=True)
class Phase:
    """Bring the fingertips to `target(scene)` until within `tolerance` of it, or `done(scene)`.

    A phase also ends after `patience` control steps. With `steps` it lasts exactly so many, in
    whole actions.
    `angle`: the hand's turn about the vertical; at 0 the fingers open along y.
    """

    target: Callable[[Scene], Vector]
    done: Callable[[Scene], bool] | None = None
    gripper: float = OPEN
    angle: Callable[[Scene], float] = lambda scene: 0.0
    tolerance: float = 0.01
    patience: int = 60
    steps: int | None = None

    def is_done(self, scene: Scene, taken: int) -> bool:
        """taken: actions since the phase began."""
        repeat = scene.action_repeat
        if self.steps is not None:
            return taken >= max(1, round(self.steps / repeat))
        if taken * repeat >= self.patience:
            return True
        if self.done is not None:
            return self.done(scene)
        return bool(np.linalg.norm(self.target(scene) - scene.tip) < self.tolerance)

    def action(self, scene: Scene) -> np.ndarray:
        shift = (self.target(scene) - scene.tip) * min(GAIN / SHIFT, 1 / scene.reach)
        turn = rotation_vector(turned(self.angle(scene)) @ scene.hand.T)
        turn *= min(1 / TURN, 1 / (TURN_SPEED * scene.action_repeat))
        shift /= max(1.0, float(np.abs(shift).max()))
        return np.clip([*shift, *turn, self.gripper], -1.0, 1.0)


@dataclass(frozen=True)
class Script:
    """The phases of a task in order, again and again.

    pick: how many of the phases are over once the thing is in the hand and lifted.
    """

    phases: Sequence[Phase]
    pick: int = 0


class Controller:
    """Plays a script from the present state on.

    Args:
        env: the simulator; its true state is read at every action.
        script: what to do.
        rng: source of the noise; not used when `noise` is 0.
        noise: standard deviation of the temporally correlated noise on the hand's shift, a fifth
            of that on its turn.
    """

    def __init__(
        self, env: Simulator, script: Script, rng: np.random.Generator, noise: float = 0.0
    ) -> None:
        self.scene = Scene(env)
        self._script = script
        self._noise = CorrelatedNoise(6, noise, rng) if noise > 0 else None
        self._index = 0
        self._taken = 0

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self._script.phases[self._index]

    @property
    def picked(self) -> bool:
        """Whether the last action was of a phase after the pick."""
        return self._index >= self._script.pick

    @property
    def finished(self) -> bool:
        """Whether the script has been gone through; the next action begins it anew."""
        last = self._index == len(self._script.phases) - 1
        return last and self.phase.is_done(self.scene, self._taken)

    def act(self) -> np.ndarray:
        """The action for the present state: float32 (7,) in [-1, 1]."""
        while self.phase.is_done(self.scene, self._taken):
            self._index = (self._index + 1) % len(self._script.phases)
            self._taken = 0
        self._taken += 1
        action = self.phase.action(self.scene)
        if self._noise is not None:
            action[:6] += self.scene.spread[:6] * self._noise()
        return np.clip(action, -1.0, 1.0).astype(np.float32)
