"""RoboDesk's arm as a script sees and moves it.

A script is a list of waypoints; a waypoint moves the fingertips towards a target until done, or
when it is due.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cola_train.controllers.policies import UP, CorrelatedNoise, Simulator, Vector

FINGER_LENGTH = 0.05
"""Metres from the simulator's end effector site to the middle of the closed fingertips."""

WORKSPACE_LOW: Vector = np.array([-0.5, 0.5, 0.76])
WORKSPACE_HIGH: Vector = np.array([0.5, 0.9, 1.05])
"""Where the fingertips can be useful: above the desk and before the shelf."""

REACH = 0.08
"""Metres that the hand moves in a step (50 substeps) of a full action."""


class Scene:
    """Named, read-only access to the state (metres; x right, y away, z up)."""

    low, high, reach = WORKSPACE_LOW, WORKSPACE_HIGH, REACH
    spread = np.ones(5)

    def __init__(self, env: Simulator) -> None:
        self._data = env.physics.named.data

    @property
    def pointing(self) -> Vector:
        """The unit vector along the fingers, from the wrist to the tips."""
        return self._hand_axes[:, 2]

    @property
    def heading(self) -> Vector:
        """The horizontal unit vector in which the fingers point."""
        flat = self.pointing * [1.0, 1.0, 0.0]
        return flat / max(float(np.linalg.norm(flat)), 1e-9)

    @property
    def roll(self) -> float:
        """The turn of the wrist, in [-pi/2, pi/2], after which the fingers open sideways.

        Sideways is at a right angle to the fingers and to a line that leans away from the robot,
        so that it is defined for fingers that point away as well as down.
        """
        across, opening, _ = np.array([0.0, 1.0, 1.0]) @ self._hand_axes
        return float(np.arctan(opening / across)) if across else np.pi / 2

    @property
    def tip(self) -> Vector:
        """Where the fingertips are."""
        return np.array(self._data.site_xpos["end_effector"]) + FINGER_LENGTH * self.pointing

    def body(self, name: str) -> Vector:
        """The centre of a body: `flat_block`, `upright_block`, `ball`, `drawer`, `slide`, ..."""
        return np.array(self._data.xpos[name])

    def joint(self, name: str) -> float:
        """The value of a one-dimensional joint: `slide_joint`, `drawer_joint`, ..."""
        return float(self._data.qpos[name][0])

    @property
    def _hand_axes(self) -> np.ndarray:
        return np.array(self._data.site_xmat["end_effector"]).reshape(3, 3)


RIGHT: Vector = np.array([1.0, 0.0, 0.0])
AWAY: Vector = np.array([0.0, 1.0, 0.0])


def along(
    direction: Callable[[Scene], Vector],
    target: Callable[[Scene], Vector],
    start: float,
    radius: float = 0.025,
) -> Callable[[Scene], Vector]:
    """A target that comes to `target` against the unit vector `direction`, through a funnel.

    It is up to `start` metres away along `direction`, the nearer the better the fingertips are
    aligned; within `radius` of the axis it is `target` itself.
    """

    def funnel(scene: Scene) -> Vector:
        goal, axis = target(scene), direction(scene)
        offset = scene.tip - goal
        aside = float(np.linalg.norm(offset - offset.dot(axis) * axis))
        return goal + axis * np.clip(2 * (aside - radius), 0.0, start)

    return funnel


def from_above(
    target: Callable[[Scene], Vector], height: float, radius: float = 0.025
) -> Callable[[Scene], Vector]:
    """Come down on `target` from up to `height` metres above it."""
    return along(lambda scene: UP, target, height, radius)


TURN = 0.6
"""Radians that the wrist turns in a step of a full action."""

STALL = 0.005
"""A hand that moves less than this in a step, in metres, is taken to be stuck or there."""

CLOSED, OPEN = -1.0, 1.0
"""Gripper actions."""


@dataclass(frozen=True)
class Waypoint:
    """Move the fingertips to `target(scene)` until `done(scene)`, or within `tolerance` of it.

    A waypoint also ends after `patience` steps, and when the hand is stuck.
    `level` turns the wrist until the fingers open sideways.

    A waypoint that knows when it is `due` comes whenever the scene says so, whatever came before,
    and lasts as long; of several that are due the last one counts. A script of such waypoints
    remembers nothing: one frame shows what it will do, and it can correct a policy anywhere.
    """

    target: Callable[[Scene], Vector]
    done: Callable[[Scene], bool] | None = None
    tolerance: float = 0.02
    gripper: float = CLOSED
    level: bool = False
    patience: int = 20
    due: Callable[[Scene], bool] | None = None

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
    """What to do for a task: the waypoints in order, again and again, unless they know when they
    are due, until it is once `solved`."""

    waypoints: Sequence[Waypoint]
    solved: Callable[[Scene], bool] = lambda scene: False


REST = Waypoint(lambda scene: np.array([0.0, 0.55, 1.0]))
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
        intended: the last action without its noise.
        finished: whether the script has been gone through once; it is begun anew.
        past_pickup: nothing has to be in the hand before a planning problem begins.
    """

    past_pickup = True

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
    def remembers(self) -> bool:
        """Whether it has to remember how far it is; see `Waypoint`."""
        return any(waypoint.due is None for waypoint in self._script.waypoints)

    @property
    def waypoint(self) -> Waypoint:
        """The waypoint under way."""
        return REST if self._solved else self._script.waypoints[self._index]

    def act(self) -> np.ndarray:
        """The action for the present state: float32 (5,) in [-1, 1]."""
        self._solved = self._solved or self._script.solved(self.scene)
        if not self._solved:
            self._choose_waypoint()
        self._steps += 1
        self._before = self.scene.tip
        action = self.waypoint.action(self.scene)
        self.intended = action.astype(np.float32)
        if self._noise is not None:
            action = action + self._noise()
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _choose_waypoint(self) -> None:
        for index, waypoint in reversed(list(enumerate(self._script.waypoints))):
            if waypoint.due is not None and waypoint.due(self.scene):
                self._index = index
                return
        for _ in self._script.waypoints:
            if not self._is_over():
                break
            self._index = (self._index + 1) % len(self._script.waypoints)
            self._steps = 0
            self.finished = self.finished or self._index == 0

    def _is_over(self) -> bool:
        moved = float(np.linalg.norm(self.scene.tip - self._before))
        stuck = self._steps > 0 and moved < STALL
        return stuck or self._steps >= self.waypoint.patience or self.waypoint.is_done(self.scene)
