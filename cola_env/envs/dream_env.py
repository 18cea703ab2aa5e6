"""The dream as a Gymnasium environment."""

from typing import Any, Unpack

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cola_env.envs.dream import RESET_OPTIONS, Dream, DreamOptions, DreamSnapshot
from cola_env.inputs import check_options, check_render_mode, check_step_limit
from cola_env.rollout import Rollout


class Seconds(np.float64):
    """A duration, equal to every other one: it tells nothing of the transition it was measured in.

    Gymnasium's check_env compares the infos of two equal steps; the clock must not fail it.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seconds) or super().__eq__(other)

    __hash__ = np.float64.__hash__


class ColaWorldEnv(gym.Env[Any, Any]):
    """A robot's scene imagined by a world model: one step is one diffusion prediction.

    Observations: uint8 RGB (64, 64, 3), or of the model's image_size. Actions: Box(-1, 1, (A,)),
    or MultiDiscrete codes in mode "latent". Reward: of the new frame against the goal image.
    Terminated: the success classifier holds the task for solved (only tasks that have one; a value
    function in its place ends nothing).

    task: a RoboDesk task, or one of the suite libero_goal. With a start frame and a goal image of
        the caller's any of them will do; the shipped ones and the success classifier are of the
        world's `goal_tasks` (see cola_env.worlds), the first of which is the default.
    max_episode_steps: steps until truncation; None or -1 is no limit (gym.make sets its own, 15).
    options: the world, the model, its sampler and the reward, see DreamOptions.

    reset(options=): "frame", uint8 (64, 64, 3) or (C, 64, 64, 3), the past up to now, with
    "actions" (C-1, A) between them for a direct model; "goal", uint8 (64, 64, 3) or floats in
    [0, 1]; "state", what snapshot() returned, to begin an episode there; "pair", the number of one
    of the task's shipped pairs of start and goal, in which the twin can begin, too (see
    `cola_env.make_pair`). What is not given comes from a pair that is drawn with np_random, as is
    the seed of the diffusion noise. Images that look unlike the model's rendering profile are
    warned of.

    info: "success_probability" (tasks with a classifier of such frames), and after a step
    "latent_codes" (int64, models with latent actions), "expected_psnr" (with a trust_penalty) and
    "prediction_seconds" (wall-clock).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        task: str | None = None,
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **options: Unpack[DreamOptions],
    ) -> None:
        self.render_mode = check_render_mode(render_mode)
        self.dream = Dream(1, task, **options)
        self.observation_space = self.dream.observation_space
        self.action_space = self.dream.action_space
        self.max_episode_steps = check_step_limit(max_episode_steps)

    @property
    def goal(self) -> NDArray[np.uint8]:
        """The goal image, uint8 (64, 64, 3), a copy."""
        return self.dream.goals[0].to("cpu", copy=True).numpy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode; what `options` chooses is in docs/dreams.md.

        Returns the frame, and the `success_probability` of it where there is a classifier.
        """
        super().reset(seed=seed)
        options = check_options(options, RESET_OPTIONS)
        if "state" in options:
            self.dream.begin_at([0], options, [self.np_random])
        else:
            self.dream.begin([0], [self.dream.starts.draw(self.np_random, options)])
        self.dream.starts.warn_of_other_looks(options)
        probability = self.dream.success_probability()
        info = {} if probability is None else {"success_probability": probability[0]}
        return self.dream.observations[0], info

    def step(
        self, action: ArrayLike | Tensor
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Imagine the next frame.

        Terminated when the classifier takes the frame for a success. The info holds the
        `success_probability`, the `latent_codes` and the `prediction_seconds`.
        """
        actions = self.dream.check_actions(action)
        made = self.dream.step(actions[None])
        info: dict[str, Any] = {"prediction_seconds": Seconds(made.seconds)}
        if made.codes is not None:
            info["latent_codes"] = made.codes[0]
        if made.success_probability is not None:
            info["success_probability"] = made.success_probability[0]
        if made.expected_psnr is not None:
            info["expected_psnr"] = made.expected_psnr[0]
        limit = self.max_episode_steps
        truncated = limit is not None and bool(self.dream.steps[0] >= limit)
        terminated = bool(made.terminated[0])
        return self.dream.observations[0], float(made.rewards[0]), terminated, truncated, info

    def rollout(self, actions: ArrayLike | Tensor) -> Rollout:
        """Imagine N action sequences (N, H, A), or codes, from now; the state stays as it is.

        Each is what stepping with it would give: the candidates share the episode's next noise.
        """
        made = self.dream.rollout(self.dream.check_actions(actions, "N", "H")[None])
        return Rollout(made.frames[0], made.rewards[0])

    def snapshot(self) -> DreamSnapshot:
        """The present state, noise included, for restore() or reset(options={"state": ...})."""
        return self.dream.snapshot()

    def restore(self, snapshot: DreamSnapshot) -> None:
        """Go back to a snapshot: what is stepped afterwards repeats exactly."""
        self.dream.restore(snapshot)

    def render(self) -> NDArray[np.uint8] | None:
        """The present frame, under `render_mode="rgb_array"`."""
        return self.dream.observations[0] if self.render_mode == "rgb_array" else None
