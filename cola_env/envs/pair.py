"""A dream and its twin, the real simulator, in the same state and with the same goal."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from cola_env.envs.starts import find_pair
from cola_env.errors import ColaWorldError
from cola_env.worlds import WorldInfo, find_world

Env = gymnasium.Env[Any, Any]


class PairReset(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Gives a simulator the reset option "pair": the number of one of its task's goal pairs.

    The episode begins in the pair's state, with its goal image, as does that of the dream of the
    same world under the same option.

    goals: file of the pairs; None: the shipped ones.
    """

    def __init__(self, env: Env, goals: str | Path | None = None) -> None:
        RecordConstructorArgs.__init__(self, goals=goals)
        super().__init__(env)
        self._goals = goals

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start the pair that `options` names, and give its goal; else as the simulator does."""
        if options and "pair" in options:
            own: Any = self.unwrapped
            options = dict(options)
            index = options.pop("pair")
            pair = find_pair(own.world, own.task, own.rendering, index, self._goals)
            for name in ("state", "goal"):
                if name in options:
                    raise ColaWorldError(f"Give options['pair'] or options['{name}'], not both.")
            options["state"] = own.to_snapshot(pair.initial_state)
            options["goal"] = pair.goal_frame
        return super().reset(seed=seed, options=options)


def make_pair(
    task: str | None = None, world: str | WorldInfo = "robodesk", **options: Any
) -> tuple[Env, Env]:
    """A dream and its twin, as gym.make makes them: of one task, action repeat, step limit, frame
    size and rendering profile.

    After `reset(options={"pair": i})` of both they are in the same state with the same goal.

    options: of the dream, see `cola_env.envs.dream.DreamOptions`, and max_episode_steps.
    Raises ColaWorldError where there is no such world, task or checkpoint, and ImportError where
    the simulator is not installed.
    """
    info = find_world(world)
    dream = gymnasium.make(f"ColaWorld-{info.simulator}-v0", task=task, **options)
    own: Any = dream.unwrapped
    twin = gymnasium.make(
        f"{info.simulator}-v0",
        task=own.dream.task,
        rendering=own.dream.config["rendering"],
        image_size=own.dream.image_size,
        action_repeat=info.action_repeat,
        max_episode_steps=own.max_episode_steps or -1,
    )
    goals = options.get("goals")
    return dream, twin if goals is None else PairReset(twin, goals)
