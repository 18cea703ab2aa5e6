"""Gradient descent through a differentiable cost."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from planners.population import Population
from planners.sampling import GaussianSearch, SamplingPlanner


@dataclass(frozen=True, kw_only=True)
class GradientPlanner(SamplingPlanner):
    """A planner that moves all its candidates along the gradients of their costs.

    The candidates start at the warm start (or the middle of the box), at what the cost proposes, at
    the elites of a warm start that is a PlanResult, and at samples around it, and go their ways
    independently. The cost must be made of torch operations. The elites are the best points so far.
    """

    num_samples: int = 8
    """N, how many starts."""
    iterations: int = 30
    returns: Literal["mean", "best", "finalist"] = "best"
    uses_gradients: ClassVar[bool] = True

    def sample(self, search: GaussianSearch) -> Tensor:
        if search.index:
            return search.state.points
        return super().sample(search)

    def known(self, search: GaussianSearch) -> Tensor:
        known = search.behind_mean(search.proposed)
        return known if search.elites is None else torch.cat([known, search.elites], dim=1)

    def update(self, search: GaussianSearch, population: Population) -> None:
        points = self.step(search, population)
        search.state.points = search.bounds.clamp(points)
        search.move = search.state.points - population.actions
        search.mean = population.elites[:, 0]

    @abstractmethod
    def step(self, search: GaussianSearch, population: Population) -> Tensor:
        """The next points (B, N, H, A), to be clipped; `search.state` is None in the beginning."""


@dataclass
class _Moments:
    points: Tensor  # (B, N, H, A), to be tried next
    safe: Tensor  # (B, N, H, A), the last points of finite cost
    first: Tensor
    second: Tensor


@dataclass(frozen=True, kw_only=True)
class Gradient(GradientPlanner):
    """Adam: Kingma and Ba 2015, algorithm 1, projected onto the box.

    Steps are in units of the std and do not depend on the scale of the cost. A candidate that
    steps where the cost is not finite comes half the way back.
    """

    learning_rate: float = 0.1
    """> 0, in units of the std."""
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), not {self.betas}")

    def step(self, search: GaussianSearch, population: Population) -> Tensor:
        points, slopes = population.actions, population.gradients
        assert slopes is not None
        zeros = torch.zeros_like(points)
        state = search.state = search.state or _Moments(points, points, zeros, zeros)
        valid = population.costs.isfinite()[..., None, None]
        state.safe = torch.where(valid, points, state.safe)
        beta1, beta2 = self.betas
        state.first = torch.where(valid, torch.lerp(slopes, state.first, beta1), state.first)
        state.second = torch.where(
            valid, torch.lerp(slopes.square(), state.second, beta2), state.second
        )
        time = search.index + 1
        first, second = state.first / (1 - beta1**time), state.second / (1 - beta2**time)
        direction = first / second.sqrt().clamp_min(torch.finfo(points.dtype).tiny)
        onward = points - self.learning_rate * search.std.unsqueeze(1) * direction
        return torch.where(valid, onward, (points + state.safe) / 2)
