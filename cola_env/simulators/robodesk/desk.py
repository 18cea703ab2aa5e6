"""The RoboDesk simulation: the robodesk package's model and tasks, seeded, mended and faster.

Differences to `robodesk.RoboDesk` 1.0.0 (https://github.com/google-research/robodesk):
- random numbers come from a given generator, not from the global one of numpy;
- the objects' original positions are copies (the package keeps live views, so that its
  "did not move" checks always pass);
- the inverse kinematics and the named access run faster, with bit-identical states.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
from dm_control.rl.control import PhysicsError
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.simulators.rendering import NOT_INSTALLED
from cola_env.simulators.robodesk.ik import SiteIK
from cola_env.simulators.simulator_env import DIVERGED

ARM_JOINTS = tuple(f"panda0_joint{i}" for i in range(1, 7))
SUBSTEPS = 10
ROBOT = slice(0, 9)
STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def _import_robodesk() -> Any:
    if importlib.util.find_spec("robodesk") is None:
        raise ImportError(NOT_INSTALLED)
    kept = sys.modules.get("gym")
    sys.modules["gym"] = gymnasium
    try:
        return importlib.import_module("robodesk.robodesk").RoboDesk
    finally:
        if kept is None:
            del sys.modules["gym"]
        else:
            sys.modules["gym"] = kept


RoboDesk: Any = _import_robodesk()


@contextmanager
def _divergence_told() -> Iterator[None]:
    try:
        yield
    except (PhysicsError, np.linalg.LinAlgError) as error:
        raise ColaWorldError(DIVERGED) from error


class _LiveViews(dict[str, NDArray[np.float64]]):
    """dm_control's named access, each name looked up once."""

    def __init__(self, indexer: Any) -> None:
        self._indexer = indexer

    def __missing__(self, name: str) -> NDArray[np.float64]:
        view = self[name] = self._indexer[name]
        return view


class Desk(RoboDesk):
    """RoboDesk without pixels: physics, tasks and the simulator's own rewards.

    `simulation` is the dm_control Physics; `physics`, which the package's reward functions read,
    is a fast view of it.
    """

    physics: Any
    original_pos: dict[str, NDArray[np.float64]]

    def __init__(self, task: str, action_repeat: int, reward: str) -> None:
        super().__init__(task, reward, action_repeat, episode_length=None)
        self.simulation = self.physics
        self.physics_copy.free()
        named = self.simulation.named.data
        fields = ("qpos", "xpos", "site_xpos", "geom_xpos")
        views = {field: _LiveViews(getattr(named, field)) for field in fields}
        self.physics = SimpleNamespace(named=SimpleNamespace(data=SimpleNamespace(**views)))
        self._model = self.simulation.model.ptr
        self._data = self.simulation.data.ptr
        self._ik = SiteIK(self._model, "end_effector", ARM_JOINTS)

    def new_episode(self, rng: Any) -> None:
        """Draws a starting state with `rng` (a numpy Generator, or the module numpy.random).

        Order and ranges of the draws are those of the package.
        """
        self.simulation.reset()
        qpos = self.simulation.named.data.qpos
        qpos["drawer_joint"] -= 0.10 * rng.random()
        qpos["slide_joint"] += 0.20 * rng.random()
        qpos["flat_block"][0] += 0.3 * rng.random()
        qpos["flat_block"][1] += 0.07 * rng.random()
        qpos["ball"][0] += 0.48 * rng.random()
        qpos["ball"][1] += 0.08 * rng.random()
        qpos["upright_block"][0] += 0.3 * rng.random() + 0.05
        qpos["upright_block"][1] += 0.05 * rng.random()
        rest = np.array([-0.30, -0.4, 0.28, -2.5, 0.13, 1.87, 0.91, 0.01, 0.01])
        self._data.qpos[ROBOT] = rest + 0.15 * rng.uniform(*self.joint_bounds[ROBOT].T)
        self._data.qvel[ROBOT] = 0
        self._begin()

    def new_episode_at(self, qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        """Starts where all joints have these positions (38,) and velocities (35,)."""
        self.simulation.reset()
        self._data.qpos[:] = qpos
        self._data.qvel[:] = qvel
        self._begin()

    def _begin(self) -> None:
        self.simulation.forward()
        positions = self.physics.named.data.xpos
        blocks = ("ball", "upright_block", "flat_block")
        self.original_pos = {name: positions[name].copy() for name in blocks}

    def advance(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        """Runs one action (5,) for `action_repeat` control ticks of 10 physics steps.

        Returns the package's own reward, summed over the ticks, and whether the task succeeded at
        any of them.
        Raises ColaWorldError when the simulation diverges.
        """
        total = 0.0
        succeeded = False
        with _divergence_told(), self.simulation.check_invalid_state():
            for _ in range(self.action_repeat):
                self._tick(action)
                reached = self.succeeds(self.task)
                if self.reward == "dense":
                    total += float(self._get_task_reward(self.task, "dense_reward"))
                else:
                    total += reached
                succeeded = succeeded or reached
        return total, succeeded

    def succeeds(self, task: str) -> bool:
        """Whether the present state fulfils `task`."""
        return bool(self._get_task_reward(task, "success"))

    def succeeds_wherever(self, task: str) -> bool:
        """The same, wherever the other blocks are, as VP2 judges."""
        kept = self.original_pos
        try:
            self.original_pos = {name: self.physics.named.data.xpos[name] for name in kept}
            return self.succeeds(task)
        finally:
            self.original_pos = kept

    def get_state(self) -> NDArray[np.float64]:
        """MuJoCo's mjSTATE_INTEGRATION vector."""
        state: NDArray[np.float64] = self.simulation.get_state(STATE)
        return state

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Returns to `get_state()`; the steps that follow are bit for bit the same."""
        self.simulation.set_state(state, STATE)
        self.simulation.forward()

    def _tick(self, action: NDArray[np.float32]) -> None:
        model, data = self._model, self._data
        control, applied = data.ctrl[ROBOT], data.qfrc_applied[ROBOT]
        gravity = data.qfrc_bias[ROBOT]
        control[:] = self._joint_targets(action)
        for _ in range(SUBSTEPS):
            applied[:] = gravity
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)

    def _joint_targets(self, action: NDArray[np.float32]) -> NDArray[np.float64]:
        position = self.physics.named.data.site_xpos["end_effector"]
        target = position + action[0:3] * self.end_effector_scale
        joints = self._ik.solve(self._data.qpos, target)[ROBOT]
        wrist = self._action_to_delta_joint(action[3], self.joint_bounds[6])
        wrist = self.wrist_scale * wrist + self._data.qpos[6]
        joints[6] = np.clip(wrist, self.joint_bounds[6][0], self.joint_bounds[6][1])
        joints[7:9] = self._action_to_delta_joint(action[4], self.joint_bounds[7])
        return joints
