"""Random shooting, the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
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
        uniform = torch.special.ndtr(noise.draw(self.num_samples))
        low, high = search.bounds.low, search.bounds.high
        return search.bounds.clamp(low + (high - low) * uniform)

    def update(self, search: Search, population: Population) -> None:
        assert search.best is not None
        search.mean = search.best
