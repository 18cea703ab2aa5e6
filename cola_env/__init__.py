"""ColaWorld: a world model co-trained with its latent actions, as Gymnasium environments.

Importing this package registers `ColaWorld-RoboDesk-v0` and `ColaWorld-LIBERO-v0` (the dreams),
`RoboDesk-v0` and `LIBERO-v0` (their twins, the real simulators), and `ColaWorld-Own-v0`, the dream
of a model that you trained on data of your own. Nothing heavy is imported until it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from cola_env import forks  # noqa: F401 - has to see forks from now on
from cola_env.given_limit import GivenLimit, SingleOnly

if TYPE_CHECKING:
    from cola_env.checkpoints import find_checkpoint, load_model
    from cola_env.classifier import SuccessClassifier
    from cola_env.dream_env import ColaWorldEnv
    from cola_env.dream_vector import ColaWorldVectorEnv
    from cola_env.ensembles import ClassifierEnsemble, Combination
    from cola_env.errors import ColaWorldError
    from cola_env.goals import GoalPair, GoalSet, load_goals
    from cola_env.models.world_model import ColaWorldModel
    from cola_env.rewards import (
        ClassifierReward,
        LPIPSReward,
        MSEReward,
        Reward,
        VP2Reward,
        WeightedReward,
        make_reward,
    )
    from cola_env.rollout import Rollout
    from cola_env.simulators.libero import LiberoEnv
    from cola_env.simulators.libero_tasks import libero_tasks
    from cola_env.simulators.robodesk import RoboDeskEnv

__all__ = [
    "ClassifierEnsemble",
    "ClassifierReward",
    "ColaWorldEnv",
    "ColaWorldError",
    "ColaWorldModel",
    "ColaWorldVectorEnv",
    "Combination",
    "GoalPair",
    "GoalSet",
    "LPIPSReward",
    "LiberoEnv",
    "MSEReward",
    "Reward",
    "RoboDeskEnv",
    "Rollout",
    "SuccessClassifier",
    "VP2Reward",
    "WeightedReward",
    "find_checkpoint",
    "libero_tasks",
    "load_goals",
    "load_model",
    "make_reward",
]

_HOMES = {
    "checkpoints": ("find_checkpoint", "load_model"),
    "classifier": ("SuccessClassifier",),
    "dream_env": ("ColaWorldEnv",),
    "dream_vector": ("ColaWorldVectorEnv",),
    "ensembles": ("ClassifierEnsemble", "Combination"),
    "errors": ("ColaWorldError",),
    "goals": ("GoalPair", "GoalSet", "load_goals"),
    "models.world_model": ("ColaWorldModel",),
    "rewards": (
        "ClassifierReward",
        "LPIPSReward",
        "MSEReward",
        "Reward",
        "VP2Reward",
        "WeightedReward",
        "make_reward",
    ),
    "rollout": ("Rollout",),
    "simulators.libero": ("LiberoEnv",),
    "simulators.libero_tasks": ("libero_tasks",),
    "simulators.robodesk": ("RoboDeskEnv",),
}

EPISODE_STEPS = 15
"""Step limit of the dreams and of RoboDesk: VP2's. That of LIBERO-v0 depends on the suite."""

_OWN_LIMIT = (WrapperSpec("GivenLimit", f"{GivenLimit.__module__}:GivenLimit", {}),)

for _name, _world in (("RoboDesk", "robodesk"), ("LIBERO", "libero")):
    gymnasium.register(
        id=f"ColaWorld-{_name}-v0",
        entry_point="cola_env.dream_env:ColaWorldEnv",
        vector_entry_point="cola_env.dream_vector:ColaWorldVectorEnv",
        max_episode_steps=EPISODE_STEPS,
        additional_wrappers=SingleOnly(_OWN_LIMIT),
        disable_env_checker=True,  # it cannot go on after a refused first reset()
        kwargs={"world": _world},
    )
gymnasium.register(
    id="ColaWorld-Own-v0",
    entry_point="cola_env.dream_env:ColaWorldEnv",
    vector_entry_point="cola_env.dream_vector:ColaWorldVectorEnv",
    max_episode_steps=EPISODE_STEPS,
    additional_wrappers=SingleOnly(_OWN_LIMIT),
    disable_env_checker=True,
    kwargs={"world": "own", "reward": "mse"},
)
gymnasium.register(
    id="RoboDesk-v0",
    entry_point="cola_env.simulators.robodesk:RoboDeskEnv",
    max_episode_steps=EPISODE_STEPS,
    additional_wrappers=_OWN_LIMIT,
    disable_env_checker=True,
)
gymnasium.register(
    id="LIBERO-v0",
    entry_point="cola_env.simulators.libero:LiberoEnv",
    additional_wrappers=_OWN_LIMIT,
    disable_env_checker=True,
)


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"cola_env.{module}"), name)
    raise AttributeError(f"module 'cola_env' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
