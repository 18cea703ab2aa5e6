"""Environments: what gym.make is told, and an episode of calls in any order, of dreams and twin."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import cola_env  # noqa: F401  (registers the environments)
from cola_env.models.world_model import ColaWorldModel
from tests.env.conftest import make_model
from tests.fuzz.judge import Refused, call, check, check_finite, check_inside
from tests.fuzz.values import made, mostly, numbers, odd_counts, scalars, seeds

SIZE = {
    "ColaWorld-RoboDesk-v0": 5,
    "ColaWorld-LIBERO-v0": 7,
    "ColaWorld-Own-v0": 3,
    "RoboDesk-v0": 5,
}
DREAMS = ("ColaWorld-RoboDesk-v0", "ColaWorld-LIBERO-v0", "ColaWorld-Own-v0")
PIXELS = 64
CODES = 4


@dataclass(frozen=True)
class Episode:
    """`worlds`: None for gym.make, else for gym.make_vec. `model`: "latent" or "direct"."""

    env: str
    model: str
    worlds: int | None
    settings: dict[str, Any]
    calls: list[tuple[str, Any]]


@cache
def model(kind: str, action_dim: int) -> ColaWorldModel:
    return make_model(kind, action_dim=action_dim, image_size=PIXELS).eval().requires_grad_(False)


def options(leading: tuple[int, ...], dims: int, once_in: int = 4) -> SearchStrategy[Any]:
    image = (PIXELS, PIXELS, 3)
    past = st.sampled_from([image, (*leading, *image), (*leading, 2, *image)])
    return mostly(
        st.none() | st.just({"state": "last"}),
        st.fixed_dictionaries(
            {},
            optional={
                "frame": past.flatmap(lambda shape: numbers(shape, ("uint8",), once_in)),
                "goal": mostly(numbers(image, ("uint8",)), numbers((*leading, *image))),
                "actions": numbers((*leading, 1, dims)),
                "state": mostly(st.just("last"), scalars),
                "odd": scalars,
            },
        ),
        2,
    )


def calls(env: str, worlds: int | None) -> SearchStrategy[list[tuple[str, Any]]]:
    leading, dims = () if worlds is None else (worlds,), SIZE[env]
    action = st.one_of(
        st.just("sample"),
        numbers((*leading, dims), ("float32", "float64")),
        numbers((*leading, CODES), ("int64",)),
        scalars,
    )
    many = (*leading, 2, 2)
    plans = st.one_of(
        st.just("sample"),
        numbers((*many, dims), ("float32", "float64")),
        numbers((*many, CODES), ("int64",)),
        scalars,
    )
    starts = st.tuples(mostly(seeds, scalars), options(leading, dims))
    one = st.one_of(
        st.tuples(st.just("reset"), starts),
        st.tuples(st.just("step"), action),
        st.tuples(st.just("step"), st.just("sample")),
        st.tuples(st.just("rollout"), plans),
        st.tuples(st.just("repeat"), st.none()),
        st.tuples(st.just("restore"), mostly(st.just("last"), scalars)),
        st.tuples(st.just("render"), st.none()),
        st.tuples(st.just("copy"), st.none()),
    )
    return st.lists(one, min_size=1, max_size=6)


dream_settings = st.fixed_dictionaries(
    {},
    optional={
        "task": mostly(st.none(), scalars),
        "action_mode": mostly(st.sampled_from([None, "real", "latent", "direct"]), scalars),
        "num_inference_steps": mostly(st.integers(1, 2), odd_counts),
        "guidance_scale": mostly(st.sampled_from([None, 1.0, 2.5]), scalars),
        "reward": mostly(
            st.sampled_from(["mse", "mse_sums", "vp2", "classifier", {"mse": 1.0}]),
            scalars | st.dictionaries(st.sampled_from(["mse", "odd"]), scalars, max_size=2),
        ),
        "max_episode_steps": mostly(st.sampled_from([None, -1, 1, 2]), scalars),
        "render_mode": st.sampled_from([None, "rgb_array", "human", ""]),
        "device": mostly(st.just("cpu"), st.sampled_from(["", "odd", "cuda:99", "cpu:x"]), 8),
        "odd": scalars,
    },
).map(lambda given: {k: v for k, v in given.items() if k != "odd" or isinstance(v, str)})
twin_settings = st.fixed_dictionaries(
    {},
    optional={
        "task": mostly(st.sampled_from(["open_slide", "push_red"]), scalars),
        "action_repeat": mostly(st.just(1), odd_counts),
        "rendering": mostly(st.sampled_from(["fast", "vp2"]), scalars),
        "image_size": mostly(st.just(PIXELS), odd_counts),
        "reward": mostly(st.sampled_from(["success", "dense", "mse"]), scalars),
        "max_episode_steps": mostly(st.sampled_from([None, -1, 2]), scalars),
        "render_mode": st.sampled_from([None, "rgb_array", "human", ""]),
    },
)


@st.composite
def episodes(draw: st.DrawFn, vector: bool) -> Episode:
    env = draw(st.sampled_from(DREAMS))
    worlds = draw(mostly(st.integers(1, 3), st.sampled_from([0, -1]), 12)) if vector else None
    return Episode(
        env,
        draw(st.sampled_from(["latent", "direct"])),
        worlds,
        draw(mostly(st.just({}), dream_settings, 2)),
        draw(calls(env, worlds)),
    )


@st.composite
def twins(draw: st.DrawFn) -> Episode:
    """Mostly of one setting: each makes a simulation of its own."""
    settings = draw(mostly(st.just({}), twin_settings, 8))
    return Episode("RoboDesk-v0", "", None, settings, draw(calls("RoboDesk-v0", None)))


def attempt(episode: Episode) -> bool:
    """Whether any step was made."""
    env = open_env(episode)
    if isinstance(env, Refused):
        return False
    try:
        return Player(env, episode.worlds).play(episode.calls)
    finally:
        if episode.settings or episode.env != "RoboDesk-v0":
            env.close()


def open_env(episode: Episode) -> Any:
    settings = made(episode.settings)
    if episode.env == "RoboDesk-v0":
        twin = {"action_repeat": 1, "rendering": "fast", "image_size": PIXELS}
        if not settings:
            return common_twin()
        return call(gymnasium.make, episode.env, **(twin | settings))
    given = {"checkpoint": model(episode.model, SIZE[episode.env]), "reward": "mse"} | settings
    if episode.worlds is None:
        return call(gymnasium.make, episode.env, **given)
    return call(gymnasium.make_vec, episode.env, num_envs=episode.worlds, **given)


@cache
def common_twin() -> Any:
    return gymnasium.make("RoboDesk-v0", action_repeat=1, rendering="fast", image_size=PIXELS)


class Player:
    """Plays the calls; what one of them does wrong must not spoil the next."""

    def __init__(self, env: Any, worlds: int | None) -> None:
        self.env, self.worlds = env, worlds
        self.bare = env.unwrapped
        self.snapshot: Any = None
        self.stepped = False
        for space in {"action_space", "single_action_space"} & {*dir(self.bare)}:
            getattr(self.bare, space).seed(0)

    def play(self, calls: list[tuple[str, Any]]) -> bool:
        for name, value in calls:
            getattr(self, name)(value)
        image = np.zeros((PIXELS, PIXELS, 3), np.uint8)
        start = {} if self.bare.spec.id == "RoboDesk-v0" else {"frame": image, "goal": image}
        if self.reset((0, start)):  # whatever was refused before, the environment still works
            check(self.step("sample"), "a sampled action is refused right after a reset")
        return self.stepped

    def reset(self, value: tuple[Any, Any]) -> bool:
        seed, options = value[0], made(value[1])
        if isinstance(options, dict) and isinstance(options.get("state"), str):
            options["state"] = self.snapshot
        begun = call(self.env.reset, seed=seed, options=options)
        if isinstance(begun, Refused):
            return False
        self._check_observation(begun[0])
        check_finite(begun[1], "info")
        self._keep()
        return True

    def step(self, value: Any) -> Any:
        value = self.bare.action_space.sample() if isinstance(value, str) else made(value)
        done = call(self.env.step, value)
        if isinstance(done, Refused):
            return None
        observation, reward, terminated, truncated, info = done
        self._check_observation(observation)
        check_finite(reward, "the reward")
        check_finite(info, "info")
        check(np.shape(reward) == np.shape(terminated) == np.shape(truncated), "shapes differ")
        self.stepped = True
        return observation, reward, terminated, truncated

    def rollout(self, value: Any) -> None:
        sampled = isinstance(value, str)
        if sampled:
            single = getattr(self.bare, "single_action_space", self.bare.action_space)
            leading = (2, 2) if self.worlds is None else (self.worlds, 2, 2)
            value = np.stack([single.sample() for _ in range(int(np.prod(leading)))])
            value = value.reshape(*leading, *single.shape)
        rolled = call(self.bare.rollout, made(value))
        if isinstance(rolled, Refused):
            return
        check(rolled.frames.dtype == torch.uint8, f"frames of {rolled.frames.dtype}")
        check_finite(rolled.rewards, "the rewards of a rollout")
        if sampled and self.worlds is None:  # as far as rounding in a batch allows
            state = self.bare.snapshot()
            frame = self.bare.step(value[0, 0])[0]
            self.bare.restore(state)
            apart = np.abs(rolled.frames[0, 0].numpy().astype(int) - frame).mean()
            check(apart < 2, f"a rollout and a step differ by {apart:.1f} of 255")

    def repeat(self, _: None) -> None:
        """A step, and the same after going back."""
        state = call(self.bare.snapshot)
        if isinstance(state, Refused):
            return
        self.bare.action_space.seed(0)
        action = self.bare.action_space.sample()
        first = call(self.bare.step, action)
        check(not isinstance(call(self.bare.restore, state), Refused), "an own snapshot is refused")
        second = call(self.bare.step, action)
        if isinstance(first, Refused) and isinstance(second, Refused):
            return
        for name, one, other in zip(("frame", "reward"), first[:2], second[:2], strict=True):
            check(np.array_equal(one, other), f"after restore() the {name} of a step is another")

    def restore(self, value: Any) -> None:
        call(self.bare.restore, self.snapshot if value == "last" else value)
        self._keep()

    def render(self, _: None) -> None:
        call(self.env.render)

    def copy(self, _: None) -> None:
        """Where an environment can be copied, both go on alike."""
        twin = copy.deepcopy(self.bare)
        state = call(self.bare.snapshot)
        if isinstance(state, Refused):
            return
        action = self.bare.action_space.sample()
        ours, theirs = call(self.bare.step, action), call(twin.step, action)
        twin.close()
        check(isinstance(ours, tuple) == isinstance(theirs, tuple), "a copy behaves differently")
        if isinstance(ours, tuple):
            check(np.array_equal(ours[0], theirs[0]), "a copy sees other frames")

    def _keep(self) -> None:
        state = call(self.bare.snapshot)
        if not isinstance(state, Refused):
            self.snapshot = state

    def _check_observation(self, observation: Any) -> None:
        check_inside(self.bare.observation_space, observation, "the observation")
