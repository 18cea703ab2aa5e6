"""The step limit that gym.make was given, before that of the simulator itself."""

from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs


class GivenLimit(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Lets a limit that was given to gym.make take the place of the simulator's own.

    gym.make keeps `max_episode_steps` for its own TimeLimit, so that the environment inside, whose
    default may be shorter, never hears of it. This one lies around the TimeLimit and reads it.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        given = None if env.spec is None else env.spec.max_episode_steps
        if given is not None:
            self.set_wrapper_attr("max_episode_steps", given)
