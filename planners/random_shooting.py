"""Random shooting, the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from planners.base import SamplingPlanner, Search
from planners.evaluation import Population
from planners.noise import NoiseStream


@dataclass(frozen=True, kw_only=True)
class RandomShooting(SamplingPlanner):
    """The best of `iterations` x `num_samples` candidates, uniform in the action space.

    `noise` correlates them over time; `std` and the warm start have no effect.
    """

    iterations: int = 1
    returns: Literal["mean", "best"] = "best"

    def sample(self, search: Search, noise: NoiseStream) -> Tensor:
        if not search.bounds.finite:
            raise ValueError("random shooting needs an action space with finite bounds")
        low, high = search.bounds.low, search.bounds.high
        uniform = noise.draw(self.num_samples).mul_(0.5**0.5).erf_().add_(1).mul_(0.5)
        return uniform.mul_(high - low).add_(low).clamp_(low, high)

    def update(self, search: Search, population: Population) -> None:
        assert search.best is not None
        search.mean = search.best
