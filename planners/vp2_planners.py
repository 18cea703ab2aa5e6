"""The planners of the VP2 benchmark, exactly: for reproducing its numbers.

Tian, Finn and Wu 2023, A Control-Centric Benchmark for Video Prediction; code github.com/s-tian/vp2
(b0eb69d), `vp2/mpc`. `MPPI` and `CEM` are the better ones. Given the same standard normal numbers
these two make the plans of that code, for a box of [-1, 1]; its costs are sums over time, pixels
and channels (in benchmarks/vp2.py, `reward=vp2_sums`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from planners.noise import Noise, WhiteNoise, ar1_matrix
from planners.population import Population
from planners.sampling import GaussianSearch, SamplingPlanner


@dataclass(frozen=True, kw_only=True)
class _VP2Planner(SamplingPlanner):
    num_samples: int = 200
    std: float | tuple[float, ...] | None = 0.5
    noise: Noise = WhiteNoise()
    """What the benchmark's filter is applied to, after the std."""
    antithetic: bool = False
    beta: float = 0.5
    """Of the filter x[t] = beta x[t-1] + (1 - beta) std[t] z[t], which loses variance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta must be in [0, 1), not {self.beta}")

    def std_of(self, search: GaussianSearch) -> Tensor:
        """(B, H, A): what the candidates are drawn with."""
        return search.std

    def known(self, search: GaussianSearch) -> Tensor:
        return search.proposed

    def draw(self, search: GaussianSearch, count: int) -> Tensor:
        white = search.noise.draw(count, self.std_of(search))
        matrix = ar1_matrix(self.beta, self.horizon, 1 - self.beta).to(white.device)
        noise = torch.einsum("hk,bnka->bnha", matrix, white)
        return search.bounds.clamp_(noise.contiguous().add_(search.mean.unsqueeze(1)))


@dataclass(frozen=True, kw_only=True)
class VP2MPPI(_VP2Planner):
    """`vp2/mpc/mppi.py`: one iteration, weights exp(-gamma * cost) of the cost as it is."""

    iterations: int = 1
    gamma: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma must be a positive number, not {self.gamma}")

    def update(self, search: GaussianSearch, population: Population) -> None:
        costs = population.costs.double()
        weights = (-self.gamma * (costs - population.elite_costs[:, :1])).exp()
        total = torch.einsum("bn,bnha->bha", weights, population.actions.double())
        search.mean = (total / (weights.sum(dim=1)[:, None, None] + 1e-10)).float()


@dataclass(frozen=True, kw_only=True)
class VP2CEM(_VP2Planner):
    """`vp2/mpc/cem.py`: std at most half the way to the nearer bound; returns the best candidate
    of the last iteration."""

    alpha: float = 0.0
    """In [0, 1): how much of the previous mean and variance stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha must be in [0, 1), not {self.alpha}")

    @property
    def num_elites(self) -> int:
        return max(1, int(self.elite_fraction * self.num_samples))

    def std_of(self, search: GaussianSearch) -> Tensor:
        room = torch.minimum(search.mean - search.bounds.low, search.bounds.high - search.mean)
        if bool((search.bounds.low.isfinite() != search.bounds.high.isfinite()).any()):
            raise ValueError(
                "VP2's CEM would never leave a bound that has no other side: give both"
            )
        return torch.minimum(search.std, room / 2)

    def update(self, search: GaussianSearch, population: Population) -> None:
        variance = population.elites.var(dim=1, correction=0).lerp(search.std.square(), self.alpha)
        search.mean = population.elites.mean(dim=1).lerp(search.mean, self.alpha)
        search.std = variance.sqrt()

    def choose(self, search: GaussianSearch) -> tuple[Tensor, Tensor]:
        return search.best_elite()
