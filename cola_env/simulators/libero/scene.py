"""A LIBERO task without pixels: physics, starting states, success; seeded, and restored exactly.

Differences to the package's own environment (which reads the same .bddl files and takes the same
steps):
- random numbers come from a given seed, and numpy's global generator is left as it was;
- a reset keeps the compiled model, and puts back what the package's resets of that kind forget:
  where the fixtures were in the XML, the gripper's last command, the burner's light;
- positions are brought up to date after a step, so that pictures show the state itself and not
  that of 2 ms before.
"""

import codecs
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.simulators.libero.package import LiberoTask, import_libero
from cola_env.simulators.simulator_env import DIVERGED

SETTLE = 10
"""Control steps that the objects are given to come to rest at the start of an episode."""

STILL = np.array([0.0] * 6 + [-1.0])
"""The action that keeps the hand where it is and opens the gripper."""

ARRAY_PICKLE: list[Any] = [
    (np.empty(0).__reduce__()[0], "numpy.core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float64)),
    codecs.encode,
]
"""What the benchmark's files of starting states are allowed to hold."""

SCENE = ("problem_name", "fixtures", "objects", "regions", "initial_state")
"""What two tasks of the same scene have in common."""

GOALS = ("goal_pos", "goal_ori", "initial_joint")
"""What the arm's controller remembers from one control step to the next."""


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seeds numpy's global generator, which the package draws from, and puts it back."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


class LiberoScene:
    """The simulation of a task; `package` is the package's own environment.

    Raises ColaWorldError when the assets lack one of the task's files.
    """

    def __init__(self, task: LiberoTask, assets: str) -> None:
        envs = import_libero()
        import mujoco

        from cola_env.simulators.libero.control import ControlStep

        self._mujoco = mujoco
        self._integration = mujoco.mjtState.mjSTATE_INTEGRATION
        self._task = task
        self._unplaceable = envs.env_wrapper.RandomizationError
        self._parse = envs.bddl_utils.robosuite_parse_problem
        try:
            with _numpy_seeded(0):
                control = envs.env_wrapper.ControlEnv(
                    bddl_file_name=str(task.bddl_file),
                    use_camera_obs=False,
                    has_offscreen_renderer=False,
                    ignore_done=True,
                    hard_reset=False,
                )
        except (OSError, ValueError) as error:
            raise ColaWorldError(
                f"The assets in {assets} do not hold all that {task.suite}/{task.name} needs: "
                f"name a complete copy with assets= ({' '.join(str(error).split())})."
            ) from error
        self.package = control.env
        self.package._observables = {}
        self.instruction: str = control.language_instruction
        self.model = self.package.sim.model._model
        self.data = self.package.sim.data._data
        fixtures = [fixture.root_body for fixture in self.package.fixtures_dict.values()]
        self._fixtures = [self.model.body(name).id for name in fixtures]
        self._xml_poses = np.array([self._xml_pose(name) for name in fixtures]).reshape(-1, 7)
        self.package.visualize({each: False for each in self.package._visualizations})
        self._site_colors = self.model.site_rgba.copy()
        self._control_step = ControlStep(self.package)

    def new_episode(self, seed: int, start: NDArray[np.float64] | None = None) -> None:
        """Starts at a state drawn with `seed`, or at `start`, one of `starts()`, and settles.

        The benchmark's starts say nothing of the fixtures, which are placed by `seed` either way
        (to within about 1 cm).
        """
        self._set_fixtures(self._xml_poses)
        self.model.site_rgba[:] = self._site_colors
        self._gripper.current_action = np.zeros(2)
        with _numpy_seeded(seed):
            while not self._reset():
                pass
        if start is not None:
            self.package.sim.set_state_from_flattened(start)
            self.package.sim.forward()
        for _ in range(SETTLE):
            self._control_step(STILL)
        self._refresh()

    def advance(self, action: NDArray[np.float32], repeat: int) -> tuple[float, bool]:
        """Takes `repeat` control steps (50 ms each) with the same action (7,).

        Returns the number of control steps after which the goal held, and whether it ever did.
        Raises ColaWorldError when the simulation diverges.
        """
        for warning in self._divergences:
            warning.number = 0
        held = sum(self._control_step(action.astype(np.float64)) for _ in range(repeat))
        if any(warning.number for warning in self._divergences):
            raise ColaWorldError(DIVERGED)
        self._refresh()
        return float(held), held > 0

    def successes(self) -> dict[str, bool]:
        """Which tasks of the suite that share this scene the present state fulfils."""
        holds = self.package._eval_predicate
        return {task: all(map(holds, goal)) for task, goal in self._goals.items()}

    def starts(self) -> NDArray[np.float64]:
        """The benchmark's fixed starting states (50, 1 + nq + nv): time, positions, velocities."""
        with torch.serialization.safe_globals(ARRAY_PICKLE):
            return np.asarray(torch.load(self._task.starts_file), dtype=np.float64)

    def get_state(self) -> dict[str, NDArray[np.float64]]:
        """`controller` (21,): the hand's goal position and orientation, the posture it prefers and
        the gripper's command; `fixtures` (F, 7): positions in metres and quaternions;
        `simulation` (S,): MuJoCo's integration state."""
        size = self._mujoco.mj_stateSize(self.model, self._integration)
        simulation = np.empty(size)
        self._mujoco.mj_getState(self.model, self.data, simulation, self._integration)
        arm = [np.ravel(getattr(self._controller, name)) for name in GOALS]
        model = self.model
        return {
            "controller": np.concatenate([*arm, self._gripper.current_action]),
            "fixtures": np.hstack(
                [model.body_pos[self._fixtures], model.body_quat[self._fixtures]]
            ),
            "simulation": simulation,
        }

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of what `get_state` returns."""
        size = self._mujoco.mj_stateSize(self.model, self._integration)
        return {"controller": (21,), "fixtures": self._xml_poses.shape, "simulation": (size,)}

    def set_state(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Returns to `get_state()`; the steps that follow are bit for bit the same."""
        position, orientation, joints, gripper = np.split(state["controller"], (3, 12, 19))
        self._mujoco.mj_setState(self.model, self.data, state["simulation"], self._integration)
        self._set_fixtures(state["fixtures"])
        controller = self._controller
        controller.goal_pos, controller.goal_ori = position.copy(), orientation.reshape(3, 3).copy()
        controller.initial_joint = joints.copy()
        controller.new_update = True
        self._gripper.current_action = gripper.copy()
        self.model.site_rgba[:] = self._site_colors
        self._refresh()
        self.package._post_process()

    @property
    def _divergences(self) -> list[Any]:
        """MuJoCo's counts of states that had diverged, from which it starts anew."""
        kinds = self._mujoco.mjtWarning
        bad = (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC)
        return [self.data.warning[kind] for kind in bad]

    @functools.cached_property
    def _goals(self) -> dict[str, list[list[str]]]:
        """The goal predicates of each task of the suite that has the same scene."""
        own = self.package.parsed_problem
        parse = self._parse
        found = {f"{t.suite}/{t.name}": parse(str(t.bddl_file)) for t in self._task.siblings()}
        return {
            name: problem["goal_state"]
            for name, problem in found.items()
            if all(problem[part] == own[part] for part in SCENE)
        }

    @property
    def _controller(self) -> Any:
        return self.package.robots[0].controller

    @property
    def _gripper(self) -> Any:
        return self.package.robots[0].gripper

    def _reset(self) -> bool:
        try:
            self.package.reset()
        except self._unplaceable:
            return False
        return True

    def _refresh(self) -> None:
        """Brings positions and contacts up to date, and nothing that the next step builds on."""
        self._mujoco.mj_fwdPosition(self.model, self.data)

    def _set_fixtures(self, poses: NDArray[np.float64]) -> None:
        self.model.body_pos[self._fixtures] = poses[:, :3]
        self.model.body_quat[self._fixtures] = poses[:, 3:]

    def _xml_pose(self, body: str) -> NDArray[np.float64]:
        """Where the model's XML has a body; what stands on a fixture is placed relative to it."""
        element = self.package.model.worldbody.find(f".//body[@name='{body}']")
        text = f"{element.get('pos', '0 0 0')} {element.get('quat', '1 0 0 0')}"
        return np.array([float(number) for number in text.split()])
