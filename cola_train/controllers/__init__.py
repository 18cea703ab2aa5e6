"""Policies that make the training data and goals in the real simulators.

``policies`` has what all worlds share, ``planned`` plans in a world model, and a world has two
files: ``<world>_arm``, its true state and how a script moves the hand, and ``<world>_scripts``,
which offers what ``Scripts`` names. ``own_scripts`` offers it for worlds of the user's own.

May import: cola_env, planners and, of cola_train, ``console``.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from cola_env.simulators.gymnasium_simulator import GymnasiumSimulator
from cola_env.simulators.loading import simulator_class
from cola_env.worlds import WorldInfo
from cola_train.controllers.own_scripts import OwnScripts
from cola_train.controllers.policies import Policy, Scripted, Workspace


class Scripts(Protocol):
    """What a world offers: its workspace, and controllers for a simulator of it.

    SCRIPTED_TASKS: those that ``make_controller(task, env, rng, noise)`` knows.
    Play: made of (env, rng), touches things without a task.
    """

    @property
    def SCRIPTED_TASKS(self) -> tuple[str, ...]: ...

    @property
    def Scene(self) -> Callable[[Any], Workspace]: ...

    @property
    def Play(self) -> Callable[[Any, np.random.Generator], Policy]: ...

    @property
    def make_controller(self) -> Callable[..., Scripted]: ...


def scripts_of(world: WorldInfo) -> Scripts:
    """The scripts of a shipped world, or of one of the user's own."""
    if issubclass(simulator_class(world), GymnasiumSimulator):
        return OwnScripts(world)
    return cast(Scripts, import_module(f"cola_train.controllers.{world.name}_scripts"))
