"""VP2's simulator states of RoboDesk, written."""

import numpy as np
from numpy.typing import NDArray

from cola_env.simulators.robodesk.env import RoboDeskEnv
from cola_env.simulators.robodesk.vp2_state import PARTS, hand_of


def to_vp2_state(env: RoboDeskEnv) -> NDArray[np.float64]:
    """The present state in VP2's layout, float64 (76,)."""
    data = env.desk.simulation.data
    robot, objects = np.split(data.qpos, [PARTS["qpos_robot"]])
    robot_speed, speed = np.split(data.qvel, [PARTS["qvel_robot"]])
    return np.r_[robot, robot_speed, objects, speed, hand_of(env.desk)]
