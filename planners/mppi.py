"""Model predictive path integral control."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from planners.base import SamplingPlanner, Search
from planners.evaluation import Population


@dataclass(frozen=True, kw_only=True)
class MPPI(SamplingPlanner):
    """Average the candidates with weights exp(-cost / temperature); the std stays.

    Williams et al. 2017, Information Theoretic MPC, algorithm 2 with its minimum cost subtracted.
    Costs are measured in the distance between the best and the average elite, so that a
    temperature means the same for every cost function, and outliers (collisions) do not matter.
    """

    iterations: int = 1
    temperature: float = 0.3
    """> 0: near 0 only the best candidate counts, far above 1 all count alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")

    def update(self, search: Search, population: Population) -> None:
        costs, elites = population.costs.double(), population.elite_costs.double()
        best = elites[:, :1]
        scale = (elites.mean(dim=1, keepdim=True) - best).clamp_min(torch.finfo(costs.dtype).tiny)
        weights = (-(costs - best) / scale / self.temperature).softmax(dim=1)
        search.mean = torch.einsum("bn,bnha->bha", weights.float(), population.actions)
