"""What a scripted controller sees of LIBERO: the true poses of the hand and of the objects."""

from typing import Any, Protocol

import numpy as np

from cola_train.controllers.workspace import Vector

HAND = "gripper0_grip_site"
"""The site between the finger pads."""

SPEED = 0.013
"""Metres that the hand moves in a control step of a held action of 1."""

WORKSPACE_LOW: Vector = np.array([-0.4, -0.3, 0.91])
WORKSPACE_HIGH: Vector = np.array([0.15, 0.3, 1.25])
"""Where the fingertips can be useful: above the table."""


class Simulator(Protocol):
    """A LIBERO environment, as far as a controller needs it."""

    @property
    def physics(self) -> Any: ...

    @property
    def action_repeat(self) -> int: ...


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
