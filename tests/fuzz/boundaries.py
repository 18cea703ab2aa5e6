"""The boundaries that a user's input crosses, and the search for inputs that fail there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.internal.conjecture.providers import (
    AVAILABLE_PROVIDERS,
    Constants,
    HypothesisProvider,
)
from hypothesis.strategies import SearchStrategy

from tests.fuzz import checkpoints, environments, goals, models, planners, readers
from tests.fuzz.judge import limits


@dataclass(frozen=True)
class Boundary:
    """`attempt` tells whether an input was taken (not refused), and raises when it fails."""

    inputs: SearchStrategy[Any]
    attempt: Callable[[Any], bool]


BOUNDARIES = {
    "dream": Boundary(environments.episodes(vector=False), environments.attempt),
    "dream_vector": Boundary(environments.episodes(vector=True), environments.attempt),
    "robodesk": Boundary(environments.twins(), environments.attempt),
    "models": Boundary(models.inputs, models.attempt),
    "planners": Boundary(planners.inputs, planners.attempt),
    "lerobot": Boundary(readers.data_sets("lerobot"), readers.attempt),
    "hdf5": Boundary(readers.data_sets("hdf5"), readers.attempt),
    "video": Boundary(readers.data_sets("video"), readers.attempt),
    "checkpoints": Boundary(checkpoints.inputs, checkpoints.attempt),
    "goals": Boundary(goals.inputs, goals.attempt),
}


class Seeded(HypothesisProvider):
    """Without the constants that Hypothesis picks up in the modules that happen to be loaded: the
    inputs depend on the seed alone."""

    _local_constants = Constants()


AVAILABLE_PROVIDERS["seeded"] = f"{__name__}.Seeded"


def explore(
    name: str, start: int, count: int, visit: Callable[[Any, Callable[[], bool]], None]
) -> None:
    """Calls `visit(input, attempt)` with `count` inputs that depend on `start` alone."""
    boundary = BOUNDARIES[name]

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        backend="seeded",
    )
    @given(boundary.inputs)
    def each(value: Any) -> None:
        def attempt() -> bool:
            with limits():
                return boundary.attempt(value)

        visit(value, attempt)

    each()
