"""The step limit of gym.make, counted by the environment itself."""

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import TimeLimit


class StepLimit(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Takes the place of the TimeLimit that gym.make put around an environment.

    A TimeLimit counts the steps since reset(), so it would go on where restore() has gone back.
    Its limit becomes the environment's own `max_episode_steps`, whose count a snapshot keeps.
    Without a TimeLimit the environment's own limit stays.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        self._limit: int | None = None
        if isinstance(env, TimeLimit):
            self._limit, env = env._max_episode_steps, env.env
        super().__init__(env)
        if self._limit is not None:
            self.set_wrapper_attr("max_episode_steps", self._limit)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """With the limit, so that gym.make(env.spec) sets it again."""
        spec = super().spec
        if spec is not None:
            spec.max_episode_steps = self._limit
        return spec
