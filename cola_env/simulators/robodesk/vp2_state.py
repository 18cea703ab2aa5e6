"""VP2's simulator states of RoboDesk, read.

Source: Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023), repository
s-tian/vp2. Its state vector holds positions and velocities alone; resetting to one clears all the
rest and takes the objects to be where their episode began, as the benchmark itself does.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cola_env.errors import ColaWorldError
from cola_env.simulators.robodesk.env import RoboDeskEnv
from cola_env.simulators.simulator_env import Snapshot

if TYPE_CHECKING:
    from cola_env.simulators.robodesk.desk import Desk

PARTS = {"qpos_robot": 9, "qvel_robot": 9, "qpos_objects": 29, "qvel_objects": 26}
"""Parts of a state and their lengths; the position of the hand, (3,), follows and is redundant."""

SIZE = sum(PARTS.values())
HAND = 3
TOLERANCE = 1e-3
"""Metres that the recorded hand may lie from where the joint angles put it."""


def from_vp2_state(env: RoboDeskEnv, state: ArrayLike) -> Snapshot:
    """Put `env` into one of VP2's states, float (73,) or (76,) with the hand; its snapshot.

    Raises ColaWorldError for another length, numbers that are not finite, and a hand that is
    elsewhere than the joint angles put it.
    """
    vector = np.asarray(state, np.float64)
    if vector.shape not in ((SIZE,), (SIZE + HAND,)) or not np.isfinite(vector).all():
        raise ColaWorldError(
            f"A RoboDesk state of VP2 is {SIZE} finite numbers (or {SIZE + HAND} with the hand), "
            f"not an array of shape {vector.shape}; give the states of a RoboDesk file."
        )
    robot, robot_speed, objects, speed, hand = np.split(vector, np.cumsum([*PARTS.values()]))
    snapshot = env.begin_at(np.r_[robot, objects], np.r_[robot_speed, speed])
    off = float(np.linalg.norm(hand - hand_of(env.desk))) if len(hand) else 0.0
    if off > TOLERANCE:
        raise ColaWorldError(
            f"The hand of this VP2 state lies {100 * off:.1f} cm from where its joint angles put "
            "it; its parts are in another order, or it comes from another robot."
        )
    return snapshot


def hand_of(desk: "Desk") -> NDArray[np.float64]:
    """Where the end effector is, float64 (3,) in metres."""
    position: NDArray[np.float64] = desk.physics.named.data.site_xpos["end_effector"]
    return position.copy()
