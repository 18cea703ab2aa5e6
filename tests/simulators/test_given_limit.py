"""The limit of gym.make, with an environment that needs no package in a simulator's place."""

from dataclasses import replace
from typing import Any

import gymnasium
import pytest

import cola_env  # noqa: F401


class Short(gymnasium.Env[int, int]):
    """One whose own limit is 3 steps."""

    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.max_episode_steps = 3
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return 0, 0.0, False, self.steps >= self.max_episode_steps, {}


def length(env: gymnasium.Env[Any, Any]) -> int:
    env.reset(seed=0)
    return next(steps for steps in range(1, 99) if env.step(0)[3])


@pytest.mark.parametrize(
    ("name", "given", "steps"),
    [
        *(("LIBERO-v0", given, steps) for given, steps in ((None, 3), (-1, 3), (2, 2), (5, 5))),
        *(("RoboDesk-v0", given, steps) for given, steps in ((None, 15), (2, 2), (20, 20))),
    ],
)
def test_a_limit_of_gym_make_takes_the_place_of_the_own_one_and_is_counted_by_it(
    name: str, given: int | None, steps: int
) -> None:
    spec = replace(gymnasium.spec(name), entry_point=Short)
    env = gymnasium.make(spec, max_episode_steps=given)
    assert length(env) == length(gymnasium.make(env.spec)) == steps
    assert env.unwrapped.max_episode_steps == steps
    env.unwrapped.steps = 0
    assert [env.step(0)[3] for _ in range(steps)] == [False] * (steps - 1) + [True]
