"""A few inputs at every boundary; `python -m tests.fuzz` tries any number of them."""

from pathlib import Path

import pytest

from tests.fuzz.rounds import tried

INPUTS = {
    "dream": 60,
    "dream_vector": 40,
    "robodesk": 15,
    "models": 60,
    "planners": 200,
    "lerobot": 60,
    "hdf5": 60,
    "video": 40,
    "checkpoints": 60,
    "goals": 100,
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_is_taken_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    figures = tried(name, 0, INPUTS[name], tmp_path)
    assert not figures.failures, "\n".join(failure.told(name) for failure in figures.failures)
    assert figures.taken and figures.inputs == INPUTS[name]
