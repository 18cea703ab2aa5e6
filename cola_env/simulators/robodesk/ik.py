"""The arm's inverse kinematics, with the numbers of dm_control at a fraction of its cost.

`dm_control.utils.inverse_kinematics.qpos_from_site_pose` calls the whole of mj_fwdPosition
(collisions, inertia, actuators) in every iteration, while the Jacobian of a site depends only on
mj_kinematics and mj_comPos. The iteration itself (Buss 2004, pseudo-inverse with damping far from
the target) is kept operation by operation, so that the joints come out bit for bit the same.
"""

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-14
MAX_STEPS = 100
MAX_UPDATE_NORM = 2.0
PROGRESS_THRESHOLD = 20.0
DAMPING_THRESHOLD = 0.1
DAMPING = 3e-2


class SiteIK:
    """Moves hinge joints until a site is at a position.

    model: mujoco.MjModel. site: the site's name. joints: names of hinge joints.
    """

    def __init__(self, model: Any, site: str, joints: tuple[str, ...]) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, site)
        ids = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in joints]
        self._dofs = np.array([model.jnt_dofadr[i] for i in ids])
        self._addresses = np.array([model.jnt_qposadr[i] for i in ids])
        self._jacobian = np.empty((3, model.nv))

    def solve(self, start: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint positions (nq,) that bring the site to `target` (3,), from those of `start` (nq,).

        An unreachable target gives the joints of the last iteration, without a warning. The next
        call overwrites the array returned.
        """
        model, data = self._model, self._data
        qpos, position = data.qpos, data.site_xpos[self._site]
        qpos[:] = start
        self._update()
        for _ in range(MAX_STEPS):
            error = target - position
            error_norm = math.sqrt(error.dot(error))
            if error_norm < TOLERANCE:
                break
            mujoco.mj_jacSite(model, data, self._jacobian, None, self._site)
            update = _joint_update(self._jacobian[:, self._dofs], error, error_norm)
            update_norm = math.sqrt(update.dot(update))
            if update_norm == 0 or error_norm / update_norm > PROGRESS_THRESHOLD:
                break
            if update_norm > MAX_UPDATE_NORM:
                update *= MAX_UPDATE_NORM / update_norm
            qpos[self._addresses] += update
            self._update()
        return qpos

    def _update(self) -> None:
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)


def _joint_update(
    jacobian: NDArray[np.float64], error: NDArray[np.float64], error_norm: float
) -> NDArray[np.float64]:
    hessian = jacobian.T.dot(jacobian)
    gradient = jacobian.T.dot(error)
    if error_norm > DAMPING_THRESHOLD:
        hessian += np.eye(len(hessian)) * DAMPING
        return np.linalg.solve(hessian, gradient)
    return np.linalg.lstsq(hessian, gradient, rcond=-1)[0]
