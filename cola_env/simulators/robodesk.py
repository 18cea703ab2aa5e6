"""RoboDesk-v0: the real RoboDesk as a Gymnasium environment, the twin of the dream.

Source of the simulator and its tasks: the PyPI package robodesk
(https://github.com/google-research/robodesk); camera, action repeat and the seven tasks of VP2:
Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.rollout import Rollout
from cola_env.simulators.rendering import DeskCamera, get_profile, import_dm_control

if TYPE_CHECKING:
    from cola_env.rewards import Reward, RewardName
    from cola_env.simulators.desk import Desk

VP2_TASKS = (
    "push_red",
    "push_green",
    "push_blue",
    "open_slide",
    "open_drawer",
    "upright_block_off_table",
    "flat_block_off_table",
)
ROBODESK_TASKS = (
    "open_slide",
    "open_drawer",
    "push_green",
    "stack",
    "upright_block_off_table",
    "flat_block_in_bin",
    "flat_block_in_shelf",
    "lift_upright_block",
    "lift_ball",
    "push_blue",
    "push_red",
    "flat_block_off_table",
    "ball_off_table",
    "upright_block_in_bin",
    "ball_in_bin",
    "upright_block_in_shelf",
    "ball_in_shelf",
    "lift_flat_block",
)
SIMULATOR_REWARDS = ("success", "sparse", "dense")
ACTION_DIM = 5
OBJECTS = ("ball", "upright_block", "flat_block")
NO_GOAL = "This reward compares frames with a goal: pass reset(options={'goal': frame})."

Snapshot = dict[str, NDArray[np.float64]]
"""`episode` (2,): steps taken, success so far; `original_positions` (3, 3) of the objects at the
episode's start in metres; `simulation` (S,): MuJoCo's integration state."""


def state_to_vector(state: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """A snapshot as one float64 vector (11 + S,)."""
    keys = ("episode", "original_positions", "simulation")
    return np.concatenate([np.ravel(state[key]) for key in keys])


def vector_to_state(vector: NDArray[np.float64]) -> Snapshot:
    """The snapshot that `state_to_vector` flattened."""
    vector = np.array(vector, dtype=np.float64)
    episode, original, simulation = np.split(vector, (2, 11))
    return {
        "episode": episode,
        "original_positions": original.reshape(3, 3),
        "simulation": simulation,
    }


class RoboDeskEnv(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """A Franka arm at a desk, seen through VP2's camera.

    Observation: uint8 RGB (image_size, image_size, 3). Action: float32 (5,) in [-1, 1], clipped
    to it: hand x, y, z (a full action held for the 50 ticks moves about 8 cm), wrist, gripper.
    terminated: the task succeeded during this step. info: {"success": the same bool}.

    task: one of ROBODESK_TASKS.
    action_repeat: control ticks an action is held for; VP2 uses 50.
    rendering: "vp2" (the package's look) or "fast" (no shadows, reflections or multisampling).
    reward: "success" (1 at the first success of an episode), "sparse" or "dense" (the package's
        own, summed over the ticks); or a Reward, or what `make_reward` makes one of, of the frame
        and the goal in `reset(options={"goal": frame})`.
    max_episode_steps: truncates after so many steps; under `gym.make` its own keyword of that
        name does the same.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        task: str = "open_slide",
        *,
        action_repeat: int = 50,
        rendering: str = "vp2",
        image_size: int = 64,
        reward: "RewardName | Reward" = "success",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Raises ColaWorldError for an unknown task, profile, reward or render mode, ImportError
        when the robodesk package is missing, and RuntimeError without OpenGL."""
        _check_choice("task", task, ROBODESK_TASKS)
        _check_choice("render mode", render_mode, (None, "rgb_array"))
        profile = get_profile(rendering)
        import_dm_control()
        from cola_env.simulators.desk import Desk

        self.task = task
        self.rendering = rendering
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self._image_shape = (image_size, image_size, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, self._image_shape, np.uint8)
        self.action_space = gymnasium.spaces.Box(-1, 1, (ACTION_DIM,), np.float32)
        own = reward if isinstance(reward, str) and reward in SIMULATOR_REWARDS else None
        self._reward = None if own else _named_reward(reward, task)
        self._desk = Desk(task, action_repeat, own or "success")
        self._camera = DeskCamera(self._desk.simulation, profile, image_size)
        self._frame: NDArray[np.uint8] | None = None
        self._goal: Tensor | None = None
        self._steps = 0

    @property
    def desk(self) -> "Desk":
        """The simulation without pixels."""
        return self._desk

    @property
    def physics(self) -> Any:
        """The dm_control Physics, with named access; read it, write through `restore`."""
        return self._desk.simulation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts an episode at a random state, or at options["state"], a snapshot.

        options["goal"]: RGB image (image_size, image_size, 3), uint8 or float in [0, 1], for a
        Reward; kept for later episodes. From a snapshot the steps count from 0 again while the
        objects' original positions stay those of the snapshot's own episode.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            _check_choice("reset option", name, ("state", "goal"))
        if "goal" in options:
            self._goal = self._to_goal(options["goal"])
        if self._reward is not None and self._goal is None:
            raise ColaWorldError(NO_GOAL)
        if "state" in options:
            self.restore(options["state"])
            self._desk.success = False
        else:
            self._desk.new_episode(self.np_random)
        self._steps = 0
        self._frame = None
        return self.render(), {"success": False}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        reward, success = self._advance(action)
        frame = self.render()
        if self._reward is not None:
            if self._goal is None:
                raise ColaWorldError(NO_GOAL)
            reward = float(self._reward(torch.from_numpy(frame).float() / 255, self._goal))
        truncated = self.max_episode_steps is not None and self._steps >= self.max_episode_steps
        return frame, reward, success, truncated, {"success": success}

    def advance(self, action: NDArray[np.float32]) -> bool:
        """A step that draws nothing; returns whether the task succeeded during it."""
        return self._advance(action)[1]

    def render(self) -> NDArray[np.uint8]:
        """The present frame, drawn once a state: uint8 RGB (image_size, image_size, 3)."""
        if self._frame is None:
            self._frame = self._camera.frame()
        return self._frame.copy()

    def successes(self) -> dict[str, bool]:
        """Which of ROBODESK_TASKS the present state fulfils."""
        self._check_started()
        return {task: self._desk.succeeds(task) for task in ROBODESK_TASKS}

    def snapshot(self) -> Snapshot:
        """Everything that the next steps depend on, for `restore` here or elsewhere."""
        self._check_started()
        original = self._desk.original_pos
        return {
            "episode": np.array([self._steps, self._desk.success], dtype=np.float64),
            "original_positions": np.stack([original[name] for name in OBJECTS]),
            "simulation": self._desk.get_state(),
        }

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Returns to a `snapshot()` exactly, be it of another instance or process.

        The random generator stays as it is. Raises ColaWorldError for a foreign snapshot.
        """
        try:
            steps, success = state["episode"]
            original = dict(zip(OBJECTS, state["original_positions"], strict=True))
            self._desk.set_state(state["simulation"])
        except (KeyError, TypeError, ValueError) as error:
            raise ColaWorldError(
                "This is no snapshot of RoboDesk: pass what snapshot() or vector_to_state(vector) "
                f"returned ({error})."
            ) from error
        self._desk.original_pos = {name: np.array(position) for name, position in original.items()}
        self._desk.success = bool(success)
        self._steps = int(steps)
        self._frame = None

    def rollout(self, actions: NDArray[np.float32] | Tensor) -> Rollout:
        """Tries actions (N, H, 5) from the present state, which stays as it is.

        Returns frames uint8 (N, H, image_size, image_size, 3) and rewards float32 (N, H), as
        `step` gives them.
        """
        sequences = torch.as_tensor(actions, dtype=torch.float32).cpu().numpy()
        if sequences.ndim != 3 or sequences.shape[2] != ACTION_DIM:
            raise ColaWorldError(
                f"rollout needs actions of shape (N, H, {ACTION_DIM}), not {sequences.shape}."
            )
        start, frame = self.snapshot(), self._frame
        frames = np.empty((*sequences.shape[:2], *self._image_shape), np.uint8)
        rewards = np.empty(sequences.shape[:2], np.float32)
        try:
            for n, sequence in enumerate(sequences):
                self.restore(start)
                for h, action in enumerate(sequence):
                    frames[n, h], rewards[n, h], *_ = self.step(action)
        finally:
            self.restore(start)
            self._frame = frame
        return Rollout(torch.from_numpy(frames), torch.from_numpy(rewards))

    def close(self) -> None:
        """Frees the simulation and its OpenGL context."""
        self._desk.simulation.free()

    def _advance(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        self._check_started()
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (ACTION_DIM,):
            raise ColaWorldError(
                f"RoboDesk takes an action of shape ({ACTION_DIM},), not {action.shape}."
            )
        if not np.isfinite(action).all():
            raise ColaWorldError(f"The action {action.tolist()} holds NaN or infinity.")
        self._frame = None
        self._steps += 1
        return self._desk.advance(action.clip(-1, 1))

    def _to_goal(self, goal: Any) -> Tensor:
        image = torch.as_tensor(np.asarray(goal))
        if image.shape != self._image_shape:
            raise ColaWorldError(
                f"The goal image has shape {tuple(image.shape)} but frames have "
                f"{self._image_shape}."
            )
        if image.dtype == torch.uint8:
            return image.float() / 255
        if not (image.min() >= 0 and image.max() <= 1):
            raise ColaWorldError("A float goal image lies in [0, 1]; pass uint8 for 0 to 255.")
        return image.float()

    def _check_started(self) -> None:
        if not self._desk.original_pos:
            raise ResetNeeded("Call reset() or restore() before anything else.")


def _named_reward(reward: "RewardName | Reward", task: str) -> "Reward":
    from cola_env.rewards import REWARDS, make_reward

    if isinstance(reward, str):
        _check_choice("reward", reward, (*SIMULATOR_REWARDS, *REWARDS))
    return make_reward(reward, task)


def _check_choice(what: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise ColaWorldError(
            f"Unknown {what} {value!r} for RoboDesk: choose one of {', '.join(map(str, known))}."
        )
