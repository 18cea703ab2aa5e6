from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cola_env.simulators.rendering import set_headless_defaults

set_headless_defaults()

if not all(find_spec(name) for name in ("robodesk", "dm_control", "mujoco")):
    collect_ignore = ["test_desk.py", "test_rendering.py", "test_robodesk.py"]


@pytest.fixture(scope="module")
def make_env() -> Iterator[Callable[..., Any]]:
    from cola_env.simulators.robodesk.env import RoboDeskEnv

    made: dict[Any, RoboDeskEnv] = {}

    def make(name: str = "first", **options: Any) -> RoboDeskEnv:
        """One environment for each name and options, kept for the module: they are slow to make."""
        key = (name, *sorted(options.items()))
        if key not in made:
            made[key] = RoboDeskEnv(**{"rendering": "fast", "task": "push_red"} | options)
        return made[key]

    yield make
    for env in made.values():
        env.close()


@pytest.fixture
def actions() -> NDArray[np.float32]:
    """Twelve random actions (12, 5)."""
    return np.random.default_rng(7).uniform(-1, 1, (12, 5)).astype(np.float32)
