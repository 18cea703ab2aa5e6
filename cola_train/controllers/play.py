"""Play: diverse contact without a task, for training data."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from cola_train.controllers.scripts import Scripted

Env = TypeVar("Env")


class PlayPolicy(ABC, Generic[Env]):
    """One short script after another, each drawn at random from where the last one left off.

    Args:
        env: the simulator; its true state is read at every action.
        rng: source of all randomness.
        noise: standard deviation of the temporally correlated noise on the action.
    """

    def __init__(self, env: Env, rng: np.random.Generator, noise: float = 0.1) -> None:
        self._env, self._rng, self._noise = env, rng, noise
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
