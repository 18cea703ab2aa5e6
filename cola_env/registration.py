"""The environments that gym.make knows.

`ColaWorld-RoboDesk-v0` and `ColaWorld-LIBERO-v0` are dreams, `RoboDesk-v0` and `LIBERO-v0` their
twins, the real simulators, and `ColaWorld-Own-v0` is the dream of a model that you trained on data
of your own.
"""

from typing import Any

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from cola_env.worlds import LIBERO, OWN, ROBODESK, WorldInfo

EPISODE_STEPS = 15
"""Step limit of the dreams and of RoboDesk: VP2's. That of LIBERO-v0 depends on the suite."""


class SingleOnly(tuple[WrapperSpec, ...]):
    """Wrappers of a registered environment that has a native vector environment, too.

    gym.make_vec refuses wrappers beside the latter, which counts its own steps; it asks a copy of
    what is registered, and a copy of these is empty.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[WrapperSpec, ...]:
        return ()


COUNTED = (WrapperSpec("StepLimit", "cola_env.envs.step_limit:StepLimit", {}),)


def register_dream(world: WorldInfo, **options: Any) -> None:
    """`ColaWorld-{simulator}-v0`, whose `options` are the defaults of ColaWorldEnv's arguments."""
    gymnasium.register(
        id=f"ColaWorld-{world.simulator}-v0",
        entry_point="cola_env.envs.dream:ColaWorldEnv",
        vector_entry_point="cola_env.envs.vector_env:ColaWorldVectorEnv",
        max_episode_steps=EPISODE_STEPS,
        additional_wrappers=SingleOnly(COUNTED),
        disable_env_checker=True,  # it cannot go on after a refused first reset()
        kwargs={"world": world.name, **options},
    )


def register_simulator(world: WorldInfo, max_episode_steps: int | None) -> None:
    """`{simulator}-v0`."""
    gymnasium.register(
        id=f"{world.simulator}-v0",
        entry_point=world.entry,
        max_episode_steps=max_episode_steps,
        additional_wrappers=COUNTED,
        disable_env_checker=True,
    )


register_dream(ROBODESK)
register_dream(LIBERO)
register_dream(OWN, reward="mse")
register_simulator(ROBODESK, EPISODE_STEPS)
register_simulator(LIBERO, None)
