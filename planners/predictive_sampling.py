"""Predictive sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from planners.sampling import Population, SamplingPlanner, Search


@dataclass(frozen=True, kw_only=True)
class PredictiveSampling(SamplingPlanner):
    """The best of the plan so far and noisy variations of it.

    Howell et al. 2022, Predictive Sampling: Real-time Behaviour Synthesis with MuJoCo (MJPC). The
    plan so far, which is the warm start, is a candidate too, so that a plan never gets worse.
    The std stays; smooth candidates, which the paper makes with splines, come from `noise`.
    """

    iterations: int = 1
    returns: Literal["mean", "best", "finalist"] = "best"

    def sample(self, search: Search) -> Tensor:
        candidates = self.drawn(search, self.num_samples)
        candidates[:, 0] = search.bounds.clamp(search.mean)
        return candidates

    def update(self, search: Search, population: Population) -> None:
        search.mean = population.elites[:, 0]
