"""Multi-fidelity planning: a cheap cost looks at many candidates, the true cost at the best few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from planners.evaluation import Cost, Evaluator, device_of, rankable, takes_seed


@dataclass(frozen=True)
class Screened:
    """A cost together with a cheap approximation of it; pass it wherever a cost goes.

    Sampling planners draw `factor` times their candidates and evaluate with `cost` only those
    that are best by `cheap`, which nothing else depends on. For anybody else's planner this is
    just `cost`. Both costs live on one device.
    """

    cost: Cost
    cheap: Cost
    factor: int = 4
    """>= 2."""

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor must be at least 2, not {self.factor}")

    @property
    def device(self) -> torch.device:
        return device_of(self.cost)

    def __call__(self, actions: Tensor, *, seed: int = 0) -> Any:
        cost: Any = self.cost
        return cost(actions, seed=seed) if takes_seed(self.cost) else cost(actions)


@dataclass(frozen=True)
class Screen:
    """The cheap cost of a `Screened` in use."""

    evaluate: Evaluator
    factor: int

    def order(self, actions: Tensor, count: int) -> Tensor:
        """(B, count): the numbers of the most promising of the candidates (B, N, H, A)."""
        return rankable(self.evaluate(actions)).topk(count, dim=1, largest=False).indices
