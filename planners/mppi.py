"""Model predictive path integral control."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planners.population import Population
from planners.sampling import GaussianSearch, SamplingPlanner


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
    control_cost: float = 0.0
    """>= 0: weight of the paper's term u' Sigma^-1 v of a candidate v around the mean u, which
    draws the plan towards zero actions; 1 is the paper's with alpha = 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if not self.control_cost >= 0:
            raise ValueError(f"control_cost must not be negative, not {self.control_cost}")

    def update(self, search: GaussianSearch, population: Population) -> None:
        costs, elites = population.costs.double(), population.elite_costs.double()
        best = elites[:, :1]
        scale = (elites.mean(dim=1, keepdim=True) - best).clamp_min(torch.finfo(costs.dtype).tiny)
        logits = -(costs - best) / scale / self.temperature
        if self.control_cost:
            logits = logits - self.control_cost * self._control(search, population.actions)
        weights = logits.softmax(dim=1)
        search.mean = torch.einsum("bn,bnha->bha", weights.float(), population.actions)

    def _control(self, search: GaussianSearch, actions: Tensor) -> Tensor:
        """(B, N): u' Sigma^-1 v with Sigma the covariance of the noise, over time and scaled."""
        inverse_std = torch.where(search.std > 0, 1 / search.std, 0).double()
        pull = search.mean * inverse_std
        matrix = self.noise.matrix(self.horizon)
        if matrix is not None:
            covariance = (matrix.double() @ matrix.double().mT).to(actions.device)
            inverse = torch.linalg.pinv(covariance, rtol=1e-6, hermitian=True)
            pull = (inverse @ pull.mT.unsqueeze(-1)).squeeze(-1).mT
        return torch.einsum("bnha,bha->bn", actions.double(), pull * inverse_std)
