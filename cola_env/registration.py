"""The environments that gym.make knows.

`ColaWorld-RoboDesk-v0` and `ColaWorld-LIBERO-v0` are dreams, `RoboDesk-v0` and `LIBERO-v0` their
twins, the real simulators, and `ColaWorld-Own-v0` is the dream of a model that you trained on data
of your own.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from cola_env.errors import ColaWorldError
from cola_env.worlds import LIBERO, OWN, OWN_LOOK, ROBODESK, WORLDS, WorldInfo

if TYPE_CHECKING:
    from cola_env.simulators.gymnasium_simulator import GymnasiumSimulator

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
TWIN = (*COUNTED, WrapperSpec("PairReset", "cola_env.envs.pair:PairReset", {}))


def register_dream(world: WorldInfo, **options: Any) -> None:
    """`ColaWorld-{simulator}-v0`, whose `options` are the defaults of ColaWorldEnv's arguments."""
    gymnasium.register(
        id=f"ColaWorld-{world.simulator}-v0",
        entry_point="cola_env.envs.dream_env:ColaWorldEnv",
        vector_entry_point="cola_env.envs.vector_env:ColaWorldVectorEnv",
        max_episode_steps=EPISODE_STEPS,
        additional_wrappers=SingleOnly(COUNTED),
        disable_env_checker=True,  # it cannot go on after a refused first reset()
        kwargs={"world": world.name, **options},
    )


def register_simulator(world: WorldInfo, max_episode_steps: int | None, **options: Any) -> None:
    """`{simulator}-v0`, whose `options` are the defaults of its arguments."""
    gymnasium.register(
        id=f"{world.simulator}-v0",
        entry_point=world.entry,
        max_episode_steps=max_episode_steps,
        additional_wrappers=TWIN,
        disable_env_checker=True,
        kwargs=options,
    )


def register_world(
    simulator: "type[GymnasiumSimulator]",
    *,
    action_repeat: int = 1,
    problem_steps: int = 12,
    folder: str | Path | None = None,
) -> WorldInfo:
    """Make a world of a simulator of your own, a module-level class, by the name of its
    `simulator` in lower case.

    Then collection, training, goals and the benchmark know it as env=MODULE:NAME, and gymnasium
    as `MODULE:{simulator}-v0` (the real one) and `MODULE:ColaWorld-{simulator}-v0` (the dream),
    MODULE being the one that calls this. Calling it again changes it.

    action_repeat: steps of the environment that a planned action is held for.
    problem_steps: actions that the script needs at most in a planning problem.
    folder: where its checkpoint `cola`, `classifiers` and `goals` lie; None: the folder
        `worlds/NAME` where the program is started.
    Raises ColaWorldError for a name that is taken.
    """
    name = simulator.simulator.lower()
    world = WorldInfo(
        name=name,
        simulator=simulator.simulator,
        entry=f"{simulator.__module__}:{simulator.__qualname__}",
        tasks=simulator.tasks,
        goal_tasks=simulator.tasks,
        actions=simulator.actions,
        action_repeat=action_repeat,
        problem_steps=problem_steps,
        rendering=OWN_LOOK,
        folder=Path("worlds", name) if folder is None else Path(folder).expanduser(),
    )
    known = {OWN.name: OWN} | WORLDS
    if name in known and known[name].entry != world.entry:
        raise ColaWorldError(f"There is a world '{name}' already: give yours another name.")
    others = [spec.id for spec in gymnasium.registry.values() if spec.name == world.simulator]
    if [spec for spec in others if spec != f"{world.simulator}-v0"]:
        raise ColaWorldError(
            f"Gymnasium has {others[0]}, so '{world.simulator}' cannot be the name of a world: "
            f"give {simulator.__name__}.simulator another one."
        )
    WORLDS[name] = world
    register_dream(world)
    register_simulator(world, EPISODE_STEPS, action_repeat=world.action_repeat)
    return world


register_dream(ROBODESK)
register_dream(LIBERO)
register_dream(OWN, reward="mse")
register_simulator(ROBODESK, EPISODE_STEPS)
register_simulator(LIBERO, None)
