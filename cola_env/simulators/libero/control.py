"""The control step of LIBERO's arm: bit for bit the package's, in less time.

Every 2 ms of simulation robosuite 1.4 (`MujocoEnv.step`, `Controller.update`) runs MuJoCo's whole
forward pass three times: before the controller, in it, and in the step. The controller reads
positions and velocities alone, so one pass, halted for it, gives the same numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

HAND = 6
"""Components of an action that move the hand; the rest is the gripper's."""


@contextmanager
def _forward_left_out(sim: Any) -> Iterator[None]:
    """Keeps the controller from the passes it would run: all that it reads is up to date."""
    sim.forward = lambda: None
    try:
        yield
    finally:
        del sim.forward


class ControlStep:
    """One control step (50 ms) of the arm of `package`, LIBERO's own environment."""

    def __init__(self, package: Any) -> None:
        self._package = package
        self._model = package.sim.model._model
        self._data = package.sim.data._data
        self._robot = package.robots[0]
        self._arm = self._robot._ref_joint_actuator_indexes
        self._fingers = self._robot._ref_joint_gripper_actuator_indexes
        low, high = self._model.actuator_ctrlrange[self._fingers].T
        self._middle, self._reach = 0.5 * (high + low), 0.5 * (high - low)
        self._substeps = int(package.control_timestep / package.model_timestep)

    def __call__(self, action: NDArray[np.float64]) -> bool:
        """Holds `action` (7,) for one control step; whether the goal holds after it."""
        package, controller = self._package, self._robot.controller
        torque_limits = self._robot.torque_limits
        package.timestep += 1
        with _forward_left_out(package.sim):
            for substep in range(self._substeps):
                mujoco.mj_step1(self._model, self._data)
                if substep == 0:
                    controller.set_goal(action[:HAND])
                torques = np.clip(controller.run_controller(), *torque_limits)
                fingers = self._robot.gripper.format_action(action[HAND:])
                self._data.ctrl[self._arm] = torques
                self._data.ctrl[self._fingers] = self._middle + self._reach * fingers
                mujoco.mj_step2(self._model, self._data)
        package.cur_time += package.control_timestep
        package._post_action(action)
        return bool(package._check_success())
