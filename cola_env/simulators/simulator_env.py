"""What the real simulators have in common as Gymnasium environments."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.inputs import (
    as_actions,
    as_goals,
    check_count,
    check_step_limit,
    real_actions,
    to_bytes,
)
from cola_env.processes import compute_alone_in_a_fork
from cola_env.rollout import Rollout
from cola_env.simulators.rendering import warn_if_unlike
from cola_env.worlds import WORLDS, WorldInfo

if TYPE_CHECKING:
    from cola_env.scoring.rewards import Reward, RewardName

NO_GOAL = "This reward compares frames with a goal: pass reset(options={'goal': frame})."

DIVERGED = (
    "The simulation has diverged, as it does from states that no episode leads to: go on with "
    "reset(), or restore() a snapshot of an episode."
)
LARGEST = 1e10
"""MuJoCo takes states with larger numbers for diverged (mjMAXVAL)."""

Snapshot = dict[str, NDArray[np.float64]]
"""Everything that the next steps depend on, by name; each simulator says which names."""


class Camera(Protocol):
    """Draws the present state."""

    def frame(self) -> NDArray[np.uint8]:
        """The picture of the present state."""


class SimulatorEnv(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]], ABC):
    """A robot's real simulator behind the interface that planners and the dream share.

    Observation: uint8 RGB (image_size, image_size, 3). Action: float32 (action_dim,) in [-1, 1],
    clipped to it. terminated: the task succeeded during this step. info: {"success": the same},
    as a bool array of shape (), so that it has a dtype as all other infos have.

    copy.deepcopy and pickle give an environment that goes on as this one would, in the same state
    and with the same random numbers.

    A simulator sets `_camera` in its constructor and says how an episode starts (`_start`), what
    an action does (`_simulate`), and what its state is (`_state`, `_state_shapes`, `_set_state`).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}
    simulator: ClassVar[str]
    action_dim: ClassVar[int]
    own_rewards: ClassVar[tuple[str, ...]]
    judges: ClassVar[tuple[str, ...]] = ("tick",)
    """What `judged` knows; "tick": success at any tick of the step."""
    reset_options: ClassVar[tuple[str, ...]] = ("state", "goal")
    _remade: ClassVar[tuple[str, ...]] = ("_camera", "_desk", "_scene", "_reward")
    """Attributes that a copy makes anew instead of taking them over."""

    _camera: Camera
    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Keeps the arguments, which a copy is made with."""
        env = super().__new__(cls)
        env._made_with = args, options
        return env

    def __init__(
        self,
        task: str,
        rendering: str,
        image_size: int,
        reward: "RewardName | Reward",
        max_episode_steps: int | None,
        render_mode: str | None,
    ) -> None:
        """Raises ColaWorldError for an unknown reward or render mode, a step limit or image size
        below 1, and a reward whose success classifier knows other frames than these."""
        compute_alone_in_a_fork()
        self.check_choice("render mode", render_mode, (None, "rgb_array"))
        check_count("image_size", image_size)
        self.task = task
        self.rendering = rendering
        self.render_mode = render_mode
        self.max_episode_steps = check_step_limit(max_episode_steps)
        self._image_shape = (image_size, image_size, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, self._image_shape, np.uint8)
        self._actions = real_actions(self.action_dim)
        self.action_space = gymnasium.spaces.Box(-1, 1, self._actions.shape, np.float32)
        self._reward = self._make_reward(reward, task)
        self._pays_success = self._reward is not None or reward == "success"
        self._frame: NDArray[np.uint8] | None = None
        self._goal: Tensor | None = None
        self._started = False
        self._steps = 0
        self._succeeded = False

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {name: value for name, value in vars(self).items() if name not in self._remade}
        state = self.snapshot() if self._started else None
        return _remake, (type(self), *self._made_with, kept, state)

    @abstractmethod
    def _start(self, options: Mapping[str, Any]) -> None:
        """Begins an episode at a state drawn with `self.np_random`, or at options["state"]."""

    @abstractmethod
    def _simulate(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        """Runs an action; returns the simulator's own reward (of those but "success") and whether
        the task succeeded.

        Raises ColaWorldError when the simulation diverges.
        """

    @abstractmethod
    def _state(self) -> Snapshot:
        """All that the simulation's next steps depend on."""

    @abstractmethod
    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays of `_state`."""

    @abstractmethod
    def _set_state(self, state: Snapshot) -> None:
        """Returns to a `_state` that has been checked."""

    def snapshot(self) -> Snapshot:
        """Everything that the next steps depend on, for `restore` here or elsewhere: `episode`
        (2,), the steps taken and whether any has succeeded, and the simulation's arrays."""
        self._check_started()
        episode = np.array([self._steps, self._succeeded], dtype=np.float64)
        return {"episode": episode} | self._state()

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Returns to a `snapshot()` exactly, be it of another instance or process.

        The random generator stays as it is. Raises ColaWorldError for a foreign snapshot and for
        one that holds numbers of no episode.
        """
        checked = self._checked(state)
        self._set_state(checked)
        steps, succeeded = checked["episode"]
        self._steps, self._succeeded = int(steps), bool(succeeded)
        self._frame = None
        self._started = True

    @staticmethod
    @abstractmethod
    def to_vector(state: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """A snapshot as one float64 vector (D,), for files and tables."""

    @staticmethod
    @abstractmethod
    def to_snapshot(vector: NDArray[np.float64]) -> Snapshot:
        """The snapshot that `to_vector` flattened."""

    @abstractmethod
    def successes(self) -> dict[str, bool]:
        """Which tasks the present state fulfils, of those that this simulation can judge."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts an episode at a random state, or at options["state"], a snapshot.

        options["goal"]: RGB image (image_size, image_size, 3), uint8 or floats in [0, 1] (which are
        rounded to it), for a Reward; kept for later episodes. From a snapshot the steps count from
        0 again.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            self.check_choice("reset option", name, self.reset_options)
        if "goal" in options:
            self._goal = as_goals(options["goal"], self._image_shape[0]).float() / 255
        if self._reward is not None and self._goal is None:
            raise ColaWorldError(NO_GOAL)
        self._start(options)
        self._begun()
        frame = self.render()
        if self._goal is not None:
            goal = to_bytes(self._goal).numpy()
            warn_if_unlike(goal, frame, "The goal image", self.rendering)
        return frame, {"success": np.array(False)}

    def step(
        self, action: NDArray[np.float32] | Tensor
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Act, and draw the frame; terminated is the true success."""
        reward, success = self._advance(action)
        frame = self.render()
        if self._reward is not None:
            if self._goal is None:
                raise ColaWorldError(NO_GOAL)
            reward = float(self._reward(torch.from_numpy(frame).float() / 255, self._goal))
        truncated = self.max_episode_steps is not None and self._steps >= self.max_episode_steps
        return frame, reward, success, truncated, {"success": np.array(success)}

    def advance(self, action: NDArray[np.float32] | Tensor) -> bool:
        """A step that draws nothing; returns whether the task succeeded during it."""
        return self._advance(action)[1]

    def judged(self, judge: str, succeeded: bool) -> bool:
        """Whether one of `judges` takes the step just done for a success, `succeeded` being what
        `advance` said of it."""
        self.check_choice("judge", judge, self.judges)
        return succeeded

    def render(self) -> NDArray[np.uint8]:
        """The present frame, drawn once a state: uint8 RGB (image_size, image_size, 3)."""
        if self._frame is None:
            self._frame = self._camera.frame()
        return self._frame.copy()

    def rollout(self, actions: NDArray[np.float32] | Tensor) -> Rollout:
        """Tries actions (N, H, action_dim) from the present state, which stays as it is.

        Returns frames uint8 (N, H, image_size, image_size, 3) and rewards float32 (N, H), as
        `step` gives them.
        """
        sequences = as_actions(actions, self._actions, ("N", "H")).cpu().numpy()
        frames = np.empty((*sequences.shape[:2], *self._image_shape), np.uint8)
        rewards = np.empty(sequences.shape[:2], np.float32)

        def take(place: tuple[int, int], action: NDArray[np.float32]) -> None:
            frames[place], rewards[place], *_ = self.step(action)

        self._try(sequences, take)
        return Rollout(torch.from_numpy(frames), torch.from_numpy(rewards))

    def own_rewards_of(self, actions: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
        """What the simulator's own reward of this environment says of actions (N, H, action_dim)
        from the present state, which stays as it is: (N, H). Nothing is drawn."""
        sequences = as_actions(actions, self._actions, ("N", "H")).cpu().numpy()
        rewards = np.empty(sequences.shape[:2], np.float32)

        def take(place: tuple[int, int], action: NDArray[np.float32]) -> None:
            rewards[place], _ = self._advance(action)

        self._try(sequences, take)
        return rewards

    def _try(
        self,
        sequences: NDArray[np.float32],
        take: Callable[[tuple[int, int], NDArray[np.float32]], None],
    ) -> None:
        """Lets `take` an action at its place (n, h), sequence after sequence, each from the present
        state."""
        with self._state_kept() as start:
            for n, sequence in enumerate(sequences):
                self.restore(start)
                for h, action in enumerate(sequence):
                    take((n, h), action)

    @contextmanager
    def _state_kept(self) -> Iterator[Snapshot]:
        """Gives the present state, to which all returns in the end."""
        start, frame = self.snapshot(), self._frame
        try:
            yield start
        finally:
            self.restore(start)
            self._frame = frame

    @classmethod
    def check_choice(cls, what: str, value: Any, known: tuple[Any, ...]) -> None:
        """Raises ColaWorldError, which lists the known values, when `value` is none of them."""
        if value not in known:
            raise ColaWorldError(
                f"Unknown {what} {value!r} for {cls.simulator}: "
                f"choose one of {', '.join(map(str, known))}."
            )

    def _advance(self, action: NDArray[np.float32] | Tensor) -> tuple[float, bool]:
        self._check_started()
        move = as_actions(action, self._actions).cpu().numpy()
        self._frame = None
        self._steps += 1
        reward, success = self._simulate(move)
        if self._pays_success:
            reward = float(success and not self._succeeded)
        self._succeeded = self._succeeded or success
        return reward, success

    def _begun(self) -> None:
        """An episode begins in the present state."""
        self._started = True
        self._steps, self._succeeded = 0, False
        self._frame = None

    def _make_reward(self, reward: "RewardName | Reward", task: str) -> "Reward | None":
        """None where the simulator's own reward is asked for."""
        if isinstance(reward, str) and reward in self.own_rewards:
            return None
        from cola_env.scoring.rewards import REWARDS, is_judged, make_reward
        from cola_env.scoring.success_classifier import check_frames, load_classifier

        if isinstance(reward, str):
            self.check_choice("reward", reward, (*self.own_rewards, *REWARDS))
        classifier = None
        if is_judged(reward):
            classifier = load_classifier(None, self.world)
        made = make_reward(reward, task, classifier)
        if classifier is not None:
            check_frames(classifier, self.rendering, self._image_shape[0])
        return made

    @property
    def num_starts(self) -> int:
        """How many fixed starting states there are for `reset(options={"start": i})`."""
        return 0

    @property
    def world(self) -> WorldInfo:
        """What is known of the world that this simulates; ColaWorldError for none that there is."""
        for world in WORLDS.values():
            if world.simulator == self.simulator:
                return world
        raise ColaWorldError(f"{self.simulator} is not registered as a world, which this needs.")

    def _checked(self, state: Mapping[str, Any]) -> Snapshot:
        checked: Snapshot = {}
        try:
            shapes = {"episode": (2,)} | self._state_shapes()
            for name, shape in shapes.items():
                array = checked[name] = np.array(state[name], np.float64)
                if array.shape != shape:
                    raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
                if not (np.abs(array) < LARGEST).all():
                    raise ValueError(f"{name} holds numbers that are not finite or too large")
            if checked["episode"][0] < 0:
                raise ValueError("it has taken less than 0 steps")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ColaWorldError(
                f"This is no snapshot of {self.simulator}'s {self.task}: pass what snapshot() or "
                f"to_snapshot(vector) returned ({error})."
            ) from error
        return checked

    def _check_started(self) -> None:
        if not self._started:
            raise ResetNeeded("Call reset() or restore() before anything else.")


def _remake(
    kind: type[SimulatorEnv],
    args: tuple[Any, ...],
    options: dict[str, Any],
    kept: dict[str, Any],
    state: Snapshot | None,
) -> SimulatorEnv:
    env = kind(*args, **options)
    if state is not None:
        env.restore(state)
    vars(env).update(kept)
    return env
