"""The space that hands move in."""

from typing import Protocol

import numpy as np

Vector = np.ndarray
"""A position or direction in the world: float64 (3,), metres; z up."""

UP: Vector = np.array([0.0, 0.0, 1.0])


class Workspace(Protocol):
    """Where a hand is and may go, in metres, and how it is moved.

    low, high: corners of the box in which the fingertips, at `tip`, can be useful.
    reach: the hand's way in a full action, whose first three components are that shift.
    spread: (A,), how much each component of an action varies.
    """

    @property
    def low(self) -> Vector: ...

    @property
    def high(self) -> Vector: ...

    @property
    def reach(self) -> float: ...

    @property
    def spread(self) -> np.ndarray: ...

    @property
    def tip(self) -> Vector: ...
