"""The best of many candidates: random shooting, the baseline, and predictive sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from planners.population import Population
from planners.sampling import GaussianSearch, SamplingPlanner
from planners.settings import as_number


@dataclass(frozen=True, kw_only=True)
class RandomShooting(SamplingPlanner):
    """The best of `iterations` x `num_samples` candidates, uniform in the action space.

    `noise` correlates them over time; `std` has no effect, and the warm start is one candidate more
    of theirs.
    """

    iterations: int = 1
    returns: Literal["mean", "best"] = "best"

    def draw(self, search: GaussianSearch, count: int) -> Tensor:
        if not search.bounds.finite:
            raise ValueError("random shooting needs an action space with finite bounds")
        low, high = search.bounds.low, search.bounds.high
        uniform = (
            search.noise.draw(count, torch.ones_like(search.std))
            .mul_(0.5**0.5)
            .erf_()
            .add_(1)
            .mul_(0.5)
        )
        return search.bounds.clamp_(uniform.mul_(high - low).add_(low))

    def update(self, search: GaussianSearch, population: Population) -> None:
        search.mean = search.best()[0]


@dataclass(frozen=True, kw_only=True)
class PredictiveSampling(SamplingPlanner):
    """The best of the plan so far and noisy variations of it.

    Howell et al. 2022, Predictive Sampling: Real-time Behaviour Synthesis with MuJoCo (MJPC). The
    plan so far, which is the warm start, is a candidate too, so that a plan never gets worse.
    The std stays; smooth candidates, which the paper makes with splines, come from `noise`.
    """

    iterations: int = 1
    returns: Literal["mean", "best", "finalist"] = "best"
    margin: float = 0.0
    """By how much a plan must cost less than the first proposal, of a cost that makes some, to be
    chosen in its place: what a policy would do is the safer plan where the cost can be fooled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not as_number("margin", self.margin) >= 0:
            raise ValueError(f"margin must be at least 0, not {self.margin}")

    def known(self, search: GaussianSearch) -> Tensor:
        return search.behind_mean(search.proposed)

    def update(self, search: GaussianSearch, population: Population) -> None:
        search.mean = population.elites[:, 0]
        if self.margin and search.proposed.shape[1] and population.actions.shape[1] > 1:
            search.state = population.actions[:, 1], population.costs[:, 1]

    def choose(self, search: GaussianSearch) -> tuple[Tensor, Tensor]:
        plan, cost = super().choose(search)
        if search.state is None:
            return plan, cost
        first, first_cost = search.state
        better = cost < first_cost - self.margin
        return torch.where(better[:, None, None], plan, first), torch.where(
            better, cost, first_cost
        )
