"""A snapshot of LIBERO as one vector and back, for files and tables."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cola_env.simulators.simulator_env import Snapshot

EPISODE, CONTROLLER, POSE = 2, 21, 7


def state_to_vector(state: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """A snapshot with F fixtures as one float64 vector (24 + 7 F + S,); the first number is F."""
    keys = ("episode", "controller", "fixtures", "simulation")
    return np.concatenate([[len(state["fixtures"])], *(np.ravel(state[key]) for key in keys)])


def vector_to_state(vector: NDArray[np.float64]) -> Snapshot:
    """The snapshot that `state_to_vector` flattened."""
    vector = np.array(vector, dtype=np.float64)
    ends = np.cumsum((1, EPISODE, CONTROLLER, POSE * int(vector[0])))
    _, episode, controller, fixtures, simulation = np.split(vector, ends)
    return {
        "episode": episode,
        "controller": controller,
        "fixtures": fixtures.reshape(-1, POSE),
        "simulation": simulation,
    }
