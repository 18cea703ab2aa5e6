"""A world's real simulator, whose packages are imported only now."""

import importlib
from typing import Any

from cola_env.simulators.simulator_env import SimulatorEnv
from cola_env.worlds import WorldInfo


def simulator_class(world: WorldInfo) -> type[SimulatorEnv]:
    """The class of the world's simulator."""
    module, _, name = world.entry.partition(":")
    found: type[SimulatorEnv] = getattr(importlib.import_module(module), name)
    return found


def make_simulator(world: WorldInfo, task: str, **options: Any) -> SimulatorEnv:
    """The world's simulator with a task; the options and errors are those of its class."""
    return simulator_class(world)(task, **options)
