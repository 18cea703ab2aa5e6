"""The dreams as native vector environments: one batched prediction a step."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cola_env.dream import RESET_OPTIONS, Dream, DreamSnapshot
from cola_env.errors import ColaWorldError
from cola_env.inputs import as_array, check_options, check_render_mode, check_step_limit
from cola_env.rewards import Reward, RewardName
from cola_env.rollout import Rollout

if TYPE_CHECKING:
    from cola_env.models.world_model import ColaWorldModel

Array = NDArray[Any]


class ColaWorldVectorEnv(VectorEnv[NDArray[np.uint8], Array, Array]):
    """B imagined worlds that share one model; made by `gym.make_vec("ColaWorld-RoboDesk-v0")`.

    The arguments are those of ColaWorldEnv; the world i of reset(seed=s) is the single environment
    of reset(seed=s + i), up to rounding in the batched arithmetic.

    Autoreset is Gymnasium's NEXT_STEP: the step after a world's end ignores its action, gives
    reward 0 and begins a new episode with the options of the last reset(), as they were then, and
    the world's own generator. All worlds are predicted as one batch, however old each of them is.

    reset(options=) is ColaWorldEnv's with an axis of B in front of each value; "frame" and "goal"
    may also be one image (64, 64, 3) for all. "state" is a vector snapshot. info holds arrays, with
    Gymnasium's masks (`_success_probability`, ...), and zeros where a mask is False.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        task: str | None = None,
        *,
        world: str = "robodesk",
        checkpoint: "str | Path | ColaWorldModel | None" = None,
        device: str | torch.device = "auto",
        action_mode: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        reward: Reward | RewardName = "vp2",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ColaWorldError(f"num_envs must be at least 1, not {num_envs}.")
        self.render_mode = check_render_mode(render_mode)
        self.dream = Dream(
            num_envs,
            world=world,
            task=task,
            checkpoint=checkpoint,
            device=device,
            action_mode=action_mode,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            reward=reward,
        )
        self.num_envs = num_envs
        self.single_observation_space = self.dream.observation_space
        self.single_action_space = self.dream.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.max_episode_steps = check_step_limit(max_episode_steps)
        self._rngs = [seeding.np_random()[0] for _ in range(num_envs)]
        self._options: dict[str, Any] = {}

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        given = check_options(options, RESET_OPTIONS)
        kept = {
            name: value if name == "state" else as_array(value, f"options['{name}']").copy()
            for name, value in given.items()
        }
        self._seed(seed)
        self._begin(range(self.num_envs), kept)
        self._options = kept
        return self.dream.observations, self._success_infos(self.dream.success_probability())

    def step(
        self, actions: ArrayLike | Tensor
    ) -> tuple[NDArray[np.uint8], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        running = ~self.dream.ended
        again = np.flatnonzero(self.dream.ended).tolist()
        moves = as_array(actions, "The actions").copy()
        if moves.shape == self.action_space.shape:
            moves[again] = 0
        made = self.dream.step(self.dream.check_actions(moves, self.num_envs))
        probability = made.success_probability
        rewards = np.where(running, made.rewards, 0.0).astype(np.float64)
        terminated = made.terminated & running
        limit = self.max_episode_steps
        truncated = running & (limit is not None and self.dream.steps >= limit)
        if again:
            self._begin(again, self._options)
            probability = self.dream.success_probability()
        self.dream.ended = terminated | truncated
        infos = self._success_infos(probability) | masked(
            running,
            latent_codes=made.codes,
            prediction_seconds=np.full(self.num_envs, made.seconds),
        )
        return self.dream.observations, rewards, terminated, truncated, infos

    def rollout(self, actions: ArrayLike | Tensor) -> Rollout:
        """Imagine N sequences in each world, (B, N, H, A) or codes; the state stays as it is."""
        return self.dream.rollout(self.dream.check_actions(actions, self.num_envs, "N", "H"))

    def snapshot(self) -> DreamSnapshot:
        """The present state of all worlds, with their noise, which of them have ended, and the
        generators that their next episodes are drawn with."""
        return replace(self.dream.snapshot(), rngs=tuple(copy.deepcopy(self._rngs)))

    def restore(self, snapshot: DreamSnapshot) -> None:
        """Go back to a snapshot: a world that had ended there begins anew with the next step."""
        self.dream.restore(snapshot)
        self._rngs = copy.deepcopy(list(snapshot.rngs)) or self._rngs

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        return tuple(self.dream.observations) if self.render_mode == "rgb_array" else None

    def _begin(self, rows: Sequence[int], options: dict[str, Any]) -> None:
        if "state" in options:
            self.dream.begin_at(rows, options, self._rngs)
        else:
            draw = self.dream.starts.draw
            starts = [draw(self._rngs[row], self._options_of(row, options)) for row in rows]
            self.dream.begin(rows, starts)

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None or isinstance(seed, int | np.integer):
            first = None if seed is None else int(seed)
            seeds = [None if first is None else first + row for row in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ColaWorldError(
                f"reset() takes one seed or {self.num_envs} of them, not {len(seeds)}."
            )
        for row, value in enumerate(seeds):
            if value is not None:
                self._rngs[row] = seeding.np_random(value)[0]

    def _options_of(self, row: int, options: dict[str, Any]) -> dict[str, Any]:
        single = {}
        for name, value in options.items():
            shared = np.ndim(value) == 3 and name in ("frame", "goal")
            if not shared and np.shape(value)[:1] != (self.num_envs,):
                raise ColaWorldError(
                    f"options['{name}'] must hold one entry for each of the {self.num_envs} "
                    f"worlds, but has shape {np.shape(value)}."
                )
            single[name] = value if shared else value[row]
        return single

    def _success_infos(self, probability: Array | None) -> dict[str, Any]:
        return masked(np.ones(self.num_envs, bool), success_probability=probability)


def masked(known: NDArray[np.bool_], **values: Array | None) -> dict[str, Any]:
    """Infos as Gymnasium's vector environments give them: values, but zero where they are not
    `known` (B,), and under `_name` where they are. What is None is left out."""
    infos: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None:
            infos[name] = value.copy()
            infos[name][~known] = 0
            infos[f"_{name}"] = known.copy()
    return infos
