"""LIBERO's arm as a script sees and moves it, by OSC actions.

A script is a list of waypoints; a waypoint moves the hand, pointing down, to a place until done.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_train.controllers.policies import CorrelatedNoise, Simulator, Vector

HAND = "gripper0_grip_site"
"""The site between the finger pads."""

SPEED = 0.013
"""Metres that the hand moves in a control step of a held action of 1."""

WORKSPACE_LOW: Vector = np.array([-0.4, -0.3, 0.91])
WORKSPACE_HIGH: Vector = np.array([0.15, 0.3, 1.25])
"""Where the fingertips can be useful: above the table."""


class Scene:
    """Named, read-only access to the state (metres; x away from the robot, y right, z up)."""

    low, high = WORKSPACE_LOW, WORKSPACE_HIGH
    spread = np.array([1.0, 1.0, 1.0, 0.2, 0.2, 0.2, 1.0])

    def __init__(self, env: Simulator) -> None:
        self._env = env

    @property
    def action_repeat(self) -> int:
        """Control steps that an action is held for."""
        return self._env.action_repeat

    @property
    def reach(self) -> float:
        """Metres that the hand moves in a full action."""
        return SPEED * self.action_repeat

    @property
    def tip(self) -> Vector:
        """The point between the fingertips."""
        return np.array(self._data.get_site_xpos(HAND))

    @property
    def hand(self) -> np.ndarray:
        """The hand's axes as columns of a rotation matrix (3, 3); the third points at the tips."""
        return np.array(self._data.get_site_xmat(HAND)).reshape(3, 3)

    def object(self, name: str) -> Vector:
        """Where an object or a fixture is: `akita_black_bowl_1`, `plate_1`, `flat_stove_1`, ..."""
        return np.array(self._data.get_body_xpos(f"{name}_main"))

    def heading(self, name: str) -> float:
        """The angle of an object's x axis about the vertical, in radians."""
        axis = np.array(self._data.get_body_xmat(f"{name}_main")).reshape(3, 3)[:, 0]
        return float(np.arctan2(axis[1], axis[0]))

    def site(self, name: str) -> Vector:
        """Where a site is: `flat_stove_1_cook_region`, `wooden_cabinet_1_top_side`, ..."""
        return np.array(self._data.get_site_xpos(name))

    def joint(self, name: str) -> float:
        """The value of a one-dimensional joint: `flat_stove_1_button`, ..."""
        return float(self._data.get_joint_qpos(name))

    @property
    def _data(self) -> Any:
        return self._env.physics.data


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
class Waypoint:
    """Bring the fingertips to `target(scene)` until within `tolerance` of it, or `done(scene)`.

    A waypoint also ends after `patience` control steps. With `steps` it lasts exactly so many, in
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
        """taken: actions since the waypoint began."""
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
    """The waypoints of a task in order, again and again.

    pick: how many of the waypoints are over once the thing is in the hand and lifted.
    """

    waypoints: Sequence[Waypoint]
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

    remembers = True

    def __init__(
        self, env: Simulator, script: Script, rng: np.random.Generator, noise: float = 0.0
    ) -> None:
        self.scene = Scene(env)
        self._script = script
        self._noise = CorrelatedNoise(6, noise, rng) if noise > 0 else None
        self._index = 0
        self._taken = 0

    @property
    def waypoint(self) -> Waypoint:
        """The waypoint under way."""
        return self._script.waypoints[self._index]

    @property
    def past_pickup(self) -> bool:
        """Whether the last action was of a waypoint after the pick."""
        return self._index >= self._script.pick

    @property
    def finished(self) -> bool:
        """Whether the script has been gone through; the next action begins it anew."""
        last = self._index == len(self._script.waypoints) - 1
        return last and self.waypoint.is_done(self.scene, self._taken)

    def act(self) -> np.ndarray:
        """The action for the present state: float32 (7,) in [-1, 1]."""
        while self.waypoint.is_done(self.scene, self._taken):
            self._index = (self._index + 1) % len(self._script.waypoints)
            self._taken = 0
        self._taken += 1
        action = self.waypoint.action(self.scene)
        self.intended = np.clip(action, -1.0, 1.0).astype(np.float32)
        if self._noise is not None:
            action[:6] += self.scene.spread[:6] * self._noise()
        return np.clip(action, -1.0, 1.0).astype(np.float32)
