"""Play: diverse contact without a task, for training data."""

from abc import ABC, abstractmethod

import numpy as np

from cola_train.controllers.scripts import Scripted


class PlayPolicy(ABC):
    """One short script after another, each drawn at random from where the last one left off.

    Args:
        rng: source of all randomness.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._controller = self._draw()

    def act(self) -> np.ndarray:
        """The next action: float32 (A,) in [-1, 1]."""
        if self._controller.finished:
            self._controller = self._draw()
        return self._controller.act()

    @abstractmethod
    def _draw(self) -> Scripted:
        """What to do next, from the present state on."""

    def _direction(self) -> np.ndarray:
        """A horizontal unit vector, (3,)."""
        angle = self._rng.uniform(-np.pi, np.pi)
        return np.array([np.cos(angle), np.sin(angle), 0.0])
