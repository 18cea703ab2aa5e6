"""The cross-entropy method."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from planners.sampling import Population, SamplingPlanner, Search


@dataclass(frozen=True, kw_only=True)
class CEM(SamplingPlanner):
    """Fit a Gaussian to the elites, again and again.

    Rubinstein and Kroese, The Cross-Entropy Method, 2004; for planning, Chua et al. 2018 (PETS),
    whose smoothing this has: mean <- (1 - smoothing) * elite mean + smoothing * mean, and the
    same for the variance (the std here).
    """

    smoothing: float = 0.0
    """In [0, 1): how much of the previous mean and std stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), not {self.smoothing}")

    def update(self, search: Search, population: Population) -> None:
        self.fit(search, population.elites)

    def fit(self, search: Search, elites: Tensor) -> None:
        mean = elites.mean(dim=1)
        std = (elites - mean.unsqueeze(1)).square_().mean(dim=1).sqrt_()
        if self.smoothing:
            mean, std = mean.lerp(search.mean, self.smoothing), std.lerp(search.std, self.smoothing)
        search.mean, search.std = mean, std
