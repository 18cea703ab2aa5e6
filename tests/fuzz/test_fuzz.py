"""A few inputs at every boundary; `python -m tests.fuzz` tries any number of them."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.fuzz.boundaries import BOUNDARIES, explore

INPUTS = {
    "dream": 60,
    "dream_vector": 40,
    "robodesk": 15,
    "models": 60,
    "planners": 250,
    "lerobot": 40,
    "hdf5": 60,
    "video": 40,
    "checkpoints": 60,
    "goals": 150,
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_no_input_fails_without_a_sentence(name: str) -> None:
    taken = []

    def visit(value: Any, attempt: Callable[[], bool]) -> None:
        taken.append(attempt())

    explore(name, 0, INPUTS[name], visit)
    assert True in taken
