"""Temporally correlated Gaussian noise."""

import numpy as np


class CorrelatedNoise:
    """A stationary AR(1) process, x' = r x + sqrt(1 - r^2) e, whose variance r does not change.

    Args:
        size: number of independent components.
        scale: standard deviation of each component at every step.
        correlation: r in [0, 1), the correlation of two successive steps.
    """

    def __init__(
        self, size: int, scale: float, rng: np.random.Generator, correlation: float = 0.7
    ) -> None:
        if not 0 <= correlation < 1:
            raise ValueError(f"correlation must be in [0, 1), but it is {correlation}.")
        if scale < 0:
            raise ValueError(f"scale must not be negative, but it is {scale}.")
        self._rng = rng
        self._scale = scale
        self._correlation = correlation
        self._value = rng.standard_normal(size)

    def __call__(self) -> np.ndarray:
        """The next sample, float64 (size,)."""
        value = self._value
        fresh = self._rng.standard_normal(value.shape)
        self._value = self._correlation * value + np.sqrt(1 - self._correlation**2) * fresh
        return self._scale * value
