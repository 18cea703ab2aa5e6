"""The cross-entropy method, as it is and improved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planners.noise import ColoredNoise, Noise
from planners.population import Population, take_candidates
from planners.sampling import GaussianSearch, SamplingPlanner


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

    def update(self, search: GaussianSearch, population: Population) -> None:
        self.fit(search, population.elites)

    def fit(self, search: GaussianSearch, elites: Tensor) -> None:
        mean = elites.mean(dim=1)
        std = (elites - mean.unsqueeze(1)).square_().mean(dim=1).sqrt_()
        if self.smoothing:
            mean, std = mean.lerp(search.mean, self.smoothing), std.lerp(search.std, self.smoothing)
        search.mean, search.std = mean, std


@dataclass
class _Drawn:
    """Candidates and elites before they were clipped."""

    candidates: Tensor  # (B, N, H, A)
    elites: Tensor | None  # (B, K, H, A)


@dataclass(frozen=True, kw_only=True)
class ICEM(CEM):
    """CEM with coloured noise that keeps some of its elites, within a plan and from plan to plan.

    Pinneri et al. 2020, Sample-efficient Cross-Entropy Method for Real-time Planning. Its
    population may shrink by `decay` every iteration and has the mean in it in the last one. From
    plan to plan the elites come with a warm start that is a PlanResult, shifted. The paper smoothes
    by 0.1, lets the population decay by 1.25 and executes the best candidate of all, which here is
    `returns="best"`.

    Beyond the paper the Gaussian is fitted to the elites as they were drawn, and only what is
    evaluated is clipped: fitted to clipped elites it shrinks near the bounds for no other reason.
    """

    default_std: ClassVar[float] = 0.375

    noise: Noise = ColoredNoise(1.5)
    keep_fraction: float = 0.3
    """In [0, 1]: the share of the elites that the next iteration evaluates again."""
    decay: float = 1.0
    """>= 1: every iteration has so many times fewer candidates, down to twice the elites."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction must be in [0, 1], not {self.keep_fraction}")
        if not self.decay >= 1:
            raise ValueError(f"decay must be at least 1, not {self.decay}")

    def draw(self, search: GaussianSearch, count: int) -> Tensor:
        return search.noise.draw(count, search.std, search.mean)

    def sample(self, search: GaussianSearch) -> Tensor:
        shrunk = int(self.num_samples / self.decay**search.index)
        count = last = min(self.num_samples, max(shrunk, 2 * self.num_elites))
        known = self.known(search)[:, :count]
        candidates = torch.cat([known, self.drawn(search, count)], dim=1)[:, :count]
        elites = search.state.elites if search.index else search.elites
        if elites is not None:
            kept = elites[:, : round(self.keep_fraction * self.num_elites)]
            last -= kept.shape[1]
            candidates[:, last:] = kept
        if search.index == self.iterations - 1:
            candidates[:, last - 1] = search.mean
        search.state = _Drawn(candidates, elites)
        return search.bounds.clamp(candidates)

    def update(self, search: GaussianSearch, population: Population) -> None:
        search.state.elites = take_candidates(search.state.candidates, population.order)
        self.fit(search, search.state.elites)
