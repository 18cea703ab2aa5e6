"""Policies that make the training data and goals in the real simulators.

``policies`` has what all worlds share, ``planned`` plans in a world model, and a world has two
files: ``<world>_arm``, its true state and how a script moves the hand, and ``<world>_scripts``,
which offers ``Scene``, ``SCRIPTED_TASKS``, ``make_controller`` and ``Play``.

May import: cola_env, planners and, of cola_train, ``console``.
"""

from importlib import import_module
from types import ModuleType

from cola_env.worlds import WorldInfo
from cola_train.controllers.policies import (
    UP,
    CorrelatedNoise,
    SmoothRandom,
    Vector,
    Workspace,
)

__all__ = ["UP", "CorrelatedNoise", "SmoothRandom", "Vector", "Workspace", "scripts_of"]


def scripts_of(world: WorldInfo) -> ModuleType:
    """The module with the Scene, the scripts and the play of a world."""
    return import_module(f"cola_train.controllers.{world.name}_scripts")
