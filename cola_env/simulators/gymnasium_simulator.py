"""Any Gymnasium environment that draws itself, as the simulator of a world of one's own."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cola_env.errors import ColaWorldError
from cola_env.inputs import check_count
from cola_env.simulators.rendering import (
    check_drawing_process,
    close_at_exit,
    needs_opengl,
    set_headless_defaults,
)
from cola_env.simulators.simulator_env import SimulatorEnv, Snapshot
from cola_env.worlds import OWN_LOOK

if TYPE_CHECKING:
    from cola_env.scoring.rewards import Reward, RewardName


class Picture:
    """The middle square of what an environment draws, as uint8 RGB (image_size, image_size, 3)."""

    def __init__(self, env: gymnasium.Env[Any, Any], image_size: int) -> None:
        self._env, self._image_size = env, image_size
        self._has_drawn = False

    def frame(self) -> NDArray[np.uint8]:
        """Raises RuntimeError without OpenGL, and in a fork of a process that has drawn."""
        if not self._has_drawn and hasattr(self._env.unwrapped, "mujoco_renderer"):
            check_drawing_process()
            with needs_opengl():
                self._env.render()
            close_at_exit(self._env)
        self._has_drawn = True
        picture = np.asarray(self._env.render())
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = picture[top : top + side, left : left + side]
        if side == self._image_size:
            return np.array(square)
        size = (self._image_size, self._image_size)
        return np.array(Image.fromarray(square).resize(size, Image.Resampling.BOX, reducing_gap=3))


class GymnasiumSimulator(SimulatorEnv):
    """A simulator made of a Gymnasium environment, of which a subclass says what is known of it.

    Observation: uint8 RGB (image_size, image_size, 3), drawn by the environment itself. Action:
    float32 (A,) in [-1, 1], clipped to it and stretched to the environment's own bounds.
    terminated: the task succeeded during this step. What the environment itself observes, rewards
    and ends by is not looked at, but for the reward "env".

    simulator: name of the world in `ColaWorld-{simulator}-v0` and `{simulator}-v0`.
    env_id: what gymnasium.make makes with `env_options`, or override `make_env`.
    actions: names of an action's components.
    tasks: names of what `succeeds` can judge.
    """

    env_id: ClassVar[str]
    env_options: ClassVar[Mapping[str, Any]] = {}
    actions: ClassVar[tuple[str, ...]]
    tasks: ClassVar[tuple[str, ...]]
    own_rewards = ("success", "env")
    _remade = ("_camera", "_env", "_reward")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "actions" in vars(cls):
            cls.action_dim = len(cls.actions)

    def __init__(
        self,
        task: str | None = None,
        *,
        action_repeat: int = 1,
        rendering: str = OWN_LOOK,
        image_size: int = 64,
        reward: "RewardName | Reward" = "success",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """task: one of `tasks`; None is the first. action_repeat: steps of the environment that an
        action is held for. reward: "success" (1 at the first success of an episode) or "env" (the
        environment's own, summed over the steps), or a Reward as of the other simulators.

        Raises ColaWorldError for an unknown task, profile, reward or render mode, counts below 1,
        and an environment of other actions; ImportError and RuntimeError where it cannot be made.
        """
        task = self.tasks[0] if task is None else task
        self.check_choice("task", task, self.tasks)
        self.check_choice("rendering profile", rendering, (OWN_LOOK,))
        self.action_repeat = check_count("action_repeat", action_repeat)
        super().__init__(task, rendering, image_size, reward, max_episode_steps, render_mode)
        set_headless_defaults()
        self._env = self.make_env()
        space = self._env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or space.shape != (self.action_dim,):
            raise ColaWorldError(
                f"{self.simulator} names the {self.action_dim} actions {', '.join(self.actions)}, "
                f"but its environment takes {space}."
            )
        if not space.is_bounded():
            raise ColaWorldError(f"The actions of {self.simulator} need bounds, not {space}.")
        self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        fps = int(self._env.metadata.get("render_fps", 10))
        self.metadata = self.metadata | {"render_fps": max(1, round(fps / action_repeat))}
        self._camera = Picture(self._env, image_size)

    # What a subclass may say

    def make_env(self) -> gymnasium.Env[Any, Any]:
        """The environment, which has to draw itself as an array and to end no episode."""
        made = gymnasium.make(
            self.env_id, render_mode="rgb_array", disable_env_checker=True, **self.env_options
        )
        return made.unwrapped

    @property
    def env(self) -> Any:
        """The environment itself, to judge and to script it by; read it."""
        return self._env.unwrapped

    def succeeds(self, task: str) -> bool:
        """Whether the present state fulfils one of `tasks`."""
        raise NotImplementedError(f"{type(self).__name__}.succeeds")

    def script(self, task: str) -> NDArray[np.float64]:
        """The action (A,) in [-1, 1] by which the present state comes nearer to solving `task`.

        Data is collected with it under noise, and planning problems are made of its successes. A
        world without a script collects random actions only.
        """
        raise NotImplementedError(f"{type(self).__name__}.script")

    def get_state(self) -> NDArray[np.float64]:
        """All that the environment's next steps depend on, (S,): that of MuJoCo for environments
        that run on it. Others override this and `set_state`, or do without planning problems."""
        mujoco, model = self._mujoco()
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, self.env.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Returns to `get_state()`."""
        mujoco, model = self._mujoco()
        mujoco.mj_setState(model, self.env.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, self.env.data)

    # What makes it a simulator

    @classmethod
    def scripted_tasks(cls) -> tuple[str, ...]:
        """The tasks that `script` is for: all, or none where there is no script."""
        return () if cls.script is GymnasiumSimulator.script else cls.tasks

    def successes(self) -> dict[str, bool]:
        """Every task, and whether it is solved now."""
        self._check_started()
        return {task: bool(self.succeeds(task)) for task in self.tasks}

    def _state(self) -> Snapshot:
        """`simulation` (S,), see `get_state`."""
        return {"simulation": self.get_state()}

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        if not self._started:
            self._env.reset(seed=0)
        return {"simulation": self.get_state().shape}

    def _set_state(self, state: Snapshot) -> None:
        self.set_state(state["simulation"])

    @staticmethod
    def to_vector(state: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """A snapshot as one vector, as goals store it."""
        return np.concatenate([state["episode"], state["simulation"]])

    @staticmethod
    def to_snapshot(vector: NDArray[np.float64]) -> Snapshot:
        """What ``to_vector`` made a vector of."""
        episode, simulation = np.split(np.array(vector, dtype=np.float64), (2,))
        return {"episode": episode, "simulation": simulation}

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _start(self, options: Mapping[str, Any]) -> None:
        if "state" in options:
            self.restore(options["state"])
        else:
            self._env.reset(seed=int(self.np_random.integers(2**31)))

    def _simulate(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        own = self._low + (action.astype(np.float64) + 1) / 2 * (self._high - self._low)
        total, reached = 0.0, False
        for _ in range(self.action_repeat):
            _, reward, *_ = self._env.step(own.astype(self._env.action_space.dtype))
            total += float(reward)
            reached = reached or bool(self.succeeds(self.task))
        return total, reached

    def _mujoco(self) -> tuple[Any, Any]:
        model = getattr(self.env, "model", None)
        if model is None or not hasattr(self.env, "data"):
            raise ColaWorldError(
                f"{self.simulator} does not run on MuJoCo: give {type(self).__name__} the methods "
                "get_state and set_state, which snapshots, rollouts and planning problems need."
            )
        return importlib.import_module("mujoco"), model
