"""What a scripted controller sees: the true poses of the hand and of the objects."""

from typing import Any, Protocol

import numpy as np

from cola_train.controllers.workspace import Vector

FINGER_LENGTH = 0.05
"""Metres from the simulator's end effector site to the middle of the closed fingertips."""

WORKSPACE_LOW: Vector = np.array([-0.5, 0.5, 0.76])
WORKSPACE_HIGH: Vector = np.array([0.5, 0.9, 1.05])
"""Where the fingertips can be useful: above the desk and before the shelf."""

REACH = 0.08
"""Metres that the hand moves in a step (50 substeps) of a full action."""


class Simulator(Protocol):
    """A RoboDesk environment, as far as a controller needs it."""

    @property
    def physics(self) -> Any: ...


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
