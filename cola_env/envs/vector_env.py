"""The dreams as native vector environments: one batched prediction a step."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cola_env.envs.dream import RESET_OPTIONS, Dream, DreamOptions, DreamSnapshot, Prediction
from cola_env.errors import ColaWorldError
from cola_env.inputs import (
    as_array,
    check_count,
    check_options,
    check_render_mode,
    check_step_limit,
)
from cola_env.rollout import Rollout

Array = NDArray[Any]


class ColaWorldVectorEnv(VectorEnv[NDArray[np.uint8], Array, Array]):
    """B imagined worlds that share one model; made by `gym.make_vec("ColaWorld-RoboDesk-v0")`.

    The arguments are those of ColaWorldEnv; the world i of reset(seed=s) is the single environment
    of reset(seed=s + i), up to rounding in the batched arithmetic.

    autoreset_mode: Gymnasium's, or its name ("NextStep", "SameStep", "Disabled"). NEXT_STEP: the
    step after a world's end ignores its action, gives reward 0 and begins a new episode. SAME_STEP:
    the step that ends an episode begins the next one, too; info holds "final_obs" and "final_info".
    DISABLED: worlds that have ended wait for reset(options={"reset_mask": ...}). A new episode has
    the options of the world's last reset(), as they were then, and its own generator. All worlds
    are predicted as one batch, however old each of them is.

    reset(options=) is ColaWorldEnv's with an axis of B in front of each value; "frame" and "goal"
    may also be one image (64, 64, 3) for all. "state" is a vector snapshot. "reset_mask", bool
    (B,): the worlds to begin anew (seed and options are theirs); the others go on. info holds
    arrays, with Gymnasium's masks (`_success_probability`, ...), and zeros where a mask is False.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        num_envs: int = 1,
        task: str | None = None,
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **options: Unpack[DreamOptions],
    ) -> None:
        check_count("num_envs", num_envs)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.render_mode = check_render_mode(render_mode)
        self.dream = Dream(num_envs, task, **options)
        self.num_envs = num_envs
        self.single_observation_space = self.dream.observation_space
        self.single_action_space = self.dream.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.max_episode_steps = check_step_limit(max_episode_steps)
        self._seeded = [seeding.np_random() for _ in range(num_envs)]
        self._options: list[dict[str, Any]] = [{}] * num_envs

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator that each world's episodes are drawn with."""
        return tuple(rng for rng, _ in self._seeded)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed that each world's generator began with, -1 for one that was restored."""
        return tuple(seed for _, seed in self._seeded)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode in all worlds, or in those of `options["reset_mask"]`."""
        given = dict(check_options(options, (*RESET_OPTIONS, "reset_mask")))
        mask = self._mask(given.pop("reset_mask", np.ones(self.num_envs, bool)))
        kept = {
            name: value if name == "state" else as_array(value, f"options['{name}']").copy()
            for name, value in given.items()
        }
        rows = np.flatnonzero(mask).tolist()
        self._seed(seed, rows)
        self._begin(rows, kept)
        self.dream.starts.warn_of_other_looks(kept)
        for row in rows:
            self._options[row] = kept
        return self.dream.observations, self._success_infos(mask)

    def step(
        self, actions: ArrayLike | Tensor
    ) -> tuple[NDArray[np.uint8], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Raises ColaWorldError under AutoresetMode.DISABLED while a world has ended."""
        ended = self.dream.ended.copy()
        if ended.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ColaWorldError(
                f"The worlds {np.flatnonzero(ended).tolist()} have ended: begin them anew with "
                "reset(options={'reset_mask': terminated | truncated})."
            )
        running = ~ended
        moves = as_array(actions, "The actions").copy()
        if moves.shape == self.action_space.shape:
            moves[ended] = 0
        made = self.dream.step(self.dream.check_actions(moves, self.num_envs))
        rewards = np.where(running, made.rewards, 0.0).astype(np.float64)
        terminated = made.terminated & running
        limit = self.max_episode_steps
        truncated = running & (limit is not None and self.dream.steps >= limit)
        self.dream.ended = over = terminated | truncated
        begun, infos = ended, {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and over.any():
            begun, infos = ended | over, self._final_infos(over, made)
        infos |= self._step_infos(~begun, made)
        if begun.any():
            self._begin_again(np.flatnonzero(begun).tolist())
            infos |= self._success_infos(np.ones(self.num_envs, bool))
        return self.dream.observations, rewards, terminated, truncated, infos

    def rollout(self, actions: ArrayLike | Tensor) -> Rollout:
        """Imagine N sequences in each world, (B, N, H, A) or codes; the state stays as it is."""
        return self.dream.rollout(self.dream.check_actions(actions, self.num_envs, "N", "H"))

    def snapshot(self) -> DreamSnapshot:
        """The present state of all worlds, with their noise, which of them have ended, and the
        generators that their next episodes are drawn with."""
        return replace(self.dream.snapshot(), rngs=copy.deepcopy(self.np_random))

    def restore(self, snapshot: DreamSnapshot) -> None:
        """Go back to a snapshot: a world that had ended there begins anew with the next step."""
        self.dream.restore(snapshot)
        if snapshot.rngs:
            self._seeded = [(rng, -1) for rng in copy.deepcopy(snapshot.rngs)]

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The present frame of each world, under `render_mode="rgb_array"`."""
        return tuple(self.dream.observations) if self.render_mode == "rgb_array" else None

    def _begin(self, rows: Sequence[int], options: dict[str, Any]) -> None:
        if "state" in options:
            self.dream.begin_at(rows, options, self.np_random)
        else:
            draw = self.dream.starts.draw
            rngs = self.np_random
            starts = [draw(rngs[row], self._options_of(row, options)) for row in rows]
            self.dream.begin(rows, starts)

    def _begin_again(self, rows: Sequence[int]) -> None:
        """Begins each of the worlds `rows` with the options of its last reset()."""
        known = {id(self._options[row]): self._options[row] for row in rows}
        for options in known.values():
            self._begin([row for row in rows if self._options[row] is options], options)

    def _mask(self, given: ArrayLike | Tensor) -> NDArray[np.bool_]:
        mask = as_array(given, "options['reset_mask']")
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ColaWorldError(
                f"options['reset_mask'] must be a bool array of shape ({self.num_envs},) with at "
                f"least one True, not {mask.dtype} of shape {mask.shape}."
            )
        if not mask.all():
            self.dream.memory  # noqa: B018 - raises where there is none to go on with
        return mask

    def _seed(self, seed: int | Sequence[int | None] | None, rows: Sequence[int]) -> None:
        if seed is None or isinstance(seed, int | np.integer):
            first = None if seed is None else int(seed)
            seeds = [None if first is None else first + row for row in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ColaWorldError(
                f"reset() takes one seed or {self.num_envs} of them, not {len(seeds)}."
            )
        for row in rows:
            if seeds[row] is not None:
                self._seeded[row] = seeding.np_random(seeds[row])

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

    def _success_infos(self, known: NDArray[np.bool_]) -> dict[str, Any]:
        """Of the present frames."""
        return masked(known, success_probability=self.dream.success_probability())

    def _step_infos(self, known: NDArray[np.bool_], made: Prediction) -> dict[str, Any]:
        return masked(
            known,
            success_probability=made.success_probability,
            expected_psnr=made.expected_psnr,
            latent_codes=made.codes,
            prediction_seconds=np.full(self.num_envs, made.seconds),
        )

    def _final_infos(self, over: NDArray[np.bool_], made: Prediction) -> dict[str, Any]:
        """The last frames and infos of the worlds that are `over`, as Gymnasium gives them."""
        frames = np.full(self.num_envs, None, object)
        for row, frame in enumerate(self.dream.observations):
            if over[row]:
                frames[row] = frame
        return {
            "final_obs": frames,
            "_final_obs": over.copy(),
            "final_info": self._step_infos(over, made),
            "_final_info": over.copy(),
        }


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        known = ", ".join(repr(known.value) for known in AutoresetMode)
        raise ColaWorldError(f"autoreset_mode must be one of {known}, not {mode!r}.") from error


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
