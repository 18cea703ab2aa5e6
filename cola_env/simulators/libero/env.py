"""LIBERO-v0: the real LIBERO as a Gymnasium environment, the twin of the dream.

Source of the simulator and its tasks: the PyPI package libero, a packaging of
https://github.com/Lifelong-Robot-Learning/LIBERO (Liu et al., NeurIPS 2023), on robosuite 1.4.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cola_env.inputs import check_count
from cola_env.simulators.libero.camera import SceneCamera
from cola_env.simulators.libero.package import find_assets, find_task, use_assets
from cola_env.simulators.libero.scene import LiberoScene
from cola_env.simulators.rendering import get_profile
from cola_env.simulators.simulator_env import SimulatorEnv, Snapshot

if TYPE_CHECKING:
    from cola_env.scoring.rewards import Reward, RewardName


CONTROL_HERTZ = 20


EPISODE, CONTROLLER, POSE = 2, 21, 7


class LiberoEnv(SimulatorEnv):
    """A Franka arm in a household scene, seen through LIBERO's camera in front of it.

    Observation: uint8 RGB (image_size, image_size, 3), the right way up. Action: float32 (7,) in
    [-1, 1], clipped to it: the hand's shift in x, y, z (1 asks for 5 cm), its turn about x, y, z
    (1 asks for 0.5 rad), and the gripper (-1 opens, 1 closes). terminated: the goal predicates
    held after a control step of this step. info: {"success": the same bool}.

    task: "suite/name", one of `libero_tasks()`.
    action_repeat: control steps (at 20 Hz) that an action is held for in one environment step;
        the shift is asked for anew in each of them.
    rendering: "vp2" (the package's own look) or "fast" (no shadows, reflections or multisampling).
    reward: "success" (1 at the first success of an episode) or "sparse" (1 for each control step
        at which the goal holds); or a Reward, or what `make_reward` makes one of, of the frame and
        the goal in `reset(options={"goal": frame})`.
    assets: the folder of LIBERO's meshes and textures, where the package has none; see
        `find_assets`.
    max_episode_steps: truncates after so many environment steps; -1 is no limit; None takes the
        suite's limit of control steps (280 spatial and object, 300 goal, 520 for libero_10, 400 for
        libero_90), as -1 does under `gym.make`, which keeps its keyword of that name to itself.
    """

    simulator = "LIBERO"
    action_dim = 7
    own_rewards = ("success", "sparse")
    reset_options = ("state", "goal", "start")

    _camera: SceneCamera

    def __init__(
        self,
        task: str = "libero_goal/turn_on_the_stove",
        *,
        action_repeat: int = 1,
        rendering: str = "vp2",
        image_size: int = 64,
        reward: "RewardName | Reward" = "success",
        assets: str | Path | None = None,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Raises ColaWorldError for an unknown task, profile, reward or render mode, counts below
        1 and missing assets, ImportError when packages are missing, and RuntimeError without
        OpenGL."""
        known = find_task(task)
        profile = get_profile(rendering)
        own_limit = math.ceil(known.horizon / check_count("action_repeat", action_repeat))
        limit = own_limit if max_episode_steps is None else max_episode_steps
        super().__init__(task, rendering, image_size, reward, limit, render_mode)
        self.metadata = self.metadata | {"render_fps": max(1, CONTROL_HERTZ // action_repeat)}
        self.action_repeat = action_repeat
        folder = find_assets(assets)
        use_assets(folder)
        self._scene = LiberoScene(known, str(folder))
        self._camera = SceneCamera(self._scene.model, self._scene.data, profile, image_size)

    @property
    def physics(self) -> Any:
        """robosuite's MjSim, with named access; read it, write through `restore`."""
        return self._scene.package.sim

    @property
    def instruction(self) -> str:
        """The task in words."""
        return self._scene.instruction

    @property
    def num_starts(self) -> int:
        """How many fixed starting states the benchmark has for the task."""
        return len(self._scene.starts())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """As in `SimulatorEnv`; and options["start"]: the index of one of the benchmark's fixed
        starting states (`num_starts`), where the seed then only places the fixtures.

        Ten control steps pass at the start of an episode, in which the objects come to rest.
        """
        return super().reset(seed=seed, options=options)

    def successes(self) -> dict[str, bool]:
        """Which tasks the present state fulfils: this one and those of the suite that have the same
        scene, as all ten of libero_goal do."""
        self._check_started()
        return self._scene.successes()

    def _state(self) -> Snapshot:
        """The scene's `controller` (21,), `fixtures` (F, 7) and `simulation` (S,)."""
        return self._scene.get_state()

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        return self._scene.state_shapes()

    def _set_state(self, state: Snapshot) -> None:
        self._scene.set_state(state)

    @staticmethod
    def to_vector(state: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """A snapshot with F fixtures as one float64 vector (24 + 7 F + S,), F its first number."""
        keys = ("episode", "controller", "fixtures", "simulation")
        return np.concatenate([[len(state["fixtures"])], *(np.ravel(state[key]) for key in keys)])

    @staticmethod
    def to_snapshot(vector: NDArray[np.float64]) -> Snapshot:
        """The snapshot that `to_vector` flattened."""
        vector = np.array(vector, dtype=np.float64)
        ends = np.cumsum((1, EPISODE, CONTROLLER, POSE * int(vector[0])))
        _, episode, controller, fixtures, simulation = np.split(vector, ends)
        return {
            "episode": episode,
            "controller": controller,
            "fixtures": fixtures.reshape(-1, POSE),
            "simulation": simulation,
        }

    def close(self) -> None:
        """Frees the simulation and its OpenGL context."""
        self._camera.close()
        self._scene.package.close()

    def _start(self, options: Mapping[str, Any]) -> None:
        seed = int(self.np_random.integers(2**32))
        if "state" in options:
            self.restore(options["state"])
        elif "start" in options:
            starts = self._scene.starts()
            self.check_choice("start", options["start"], tuple(range(len(starts))))
            self._scene.new_episode(seed, starts[options["start"]])
        else:
            self._scene.new_episode(seed)

    def _simulate(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        return self._scene.advance(action, self.action_repeat)
