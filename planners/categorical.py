"""The cross-entropy method over choices: latent codes, buttons, any MultiDiscrete space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from planners.choices import Choices
from planners.cost import Cost, device_of, rankable
from planners.plan import ActionSpace, Iteration, PlanResult, shifted
from planners.population import Population, PopulationPlanner, Search
from planners.settings import as_number


@dataclass(kw_only=True)
class CategoricalSearch(Search):
    """A distribution of every component of every step, and the best candidates so far."""

    choices: Choices
    generators: Sequence[torch.Generator]  # B
    probabilities: Tensor  # (B, H, A, choices)
    known: Tensor  # (B, K, H, A), candidates of the first iteration
    elites: Tensor
    elite_costs: Tensor


@dataclass(frozen=True, kw_only=True)
class CategoricalCEM(PopulationPlanner[CategoricalSearch]):
    """Fit a categorical distribution of every component of every step to the elites.

    Rubinstein and Kroese, The Cross-Entropy Method, 2004, section 4. The elites are the best
    candidates so far, of all iterations; the best of them is the plan. Actions are int64. A warm
    start, of whole numbers or a PlanResult, is a candidate, and what the search begins near to. Of
    a `Screened` cost the true one alone is asked.
    """

    elite_fraction: float = 0.1
    """The share of candidates that are elites, at least two of them."""
    smoothing: float = 0.1
    """In [0, 1): how much of the previous probabilities stays, so that no choice is ruled out by
    a few elites."""
    repeat: float = 0.0
    """In [0, 1): how probably a step takes the random number of the one before it: where both have
    the same probabilities it then does the same. The like of noise that is correlated over time."""
    warm_start_weight: float = 0.5
    """In [0, 1): the share of the first probabilities that is the choices of a warm start; the rest
    is even."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("smoothing", "repeat", "warm_start_weight"):
            if not 0 <= as_number(name, getattr(self, name)) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")

    def begin(
        self,
        cost: Cost,
        action_space: ActionSpace,
        warm_start: Any,
        proposals: Any,
        seeds: Sequence[int],
    ) -> CategoricalSearch:
        """From even probabilities, or those near to the warm start."""
        device, batch = device_of(cost), len(seeds)
        choices = Choices.of(action_space, device)
        known, probabilities = self._beginning(choices, warm_start, proposals, batch)
        return CategoricalSearch(
            choices=choices,
            evaluate=self.evaluator(cost, device, warm_start, seeds),
            generators=[torch.Generator().manual_seed(each) for each in seeds],
            probabilities=probabilities,
            known=known,
            elites=known[:, :0],
            elite_costs=torch.empty(batch, 0, device=device),
        )

    def iterate(self, search: CategoricalSearch) -> Iteration:
        """Draw and judge candidates, and fit the probabilities to the best so far."""
        count = self.num_samples - search.known.shape[1]
        drawn = self._drawn(search.probabilities, count, search.generators)
        actions = torch.cat([search.known, search.choices.low + drawn], dim=1)
        costs = rankable(search.evaluate(actions))
        population = Population.ranked(
            torch.cat([search.elites, actions], 1),
            torch.cat([search.elite_costs, costs], 1),
            self.num_elites,
        )
        search.elites, search.elite_costs = population.elites, population.elite_costs
        shares = search.choices.shares(search.elites)
        search.probabilities = shares.lerp(search.probabilities, self.smoothing)
        search.known = search.known[:, :0]
        return Iteration(search.index, costs)

    def _beginning(
        self, choices: Choices, warm_start: Any, plans: Any, batch: int
    ) -> tuple[Tensor, Tensor]:
        """What is known (B, K, H, A), and the first probabilities (B, H, A, choices)."""
        known = choices.low.new_empty(batch, 0, self.horizon, len(choices.low))
        even = choices.even.expand(batch, self.horizon, *choices.even.shape)
        if plans is not None:
            known = choices.checked("what the cost proposes", plans, batch, "K")
            known = shifted(known, 0, self.horizon)[:, : self.num_samples]
        if warm_start is None:
            return known, even
        whole = isinstance(warm_start, PlanResult)
        plan = choices.checked("the warm start", warm_start.actions if whole else warm_start, batch)
        plan = shifted(plan, 0, self.horizon).unsqueeze(1)
        liked = plan
        if whole and warm_start.elites is not None and warm_start.elites.shape[1]:
            liked = choices.checked("the warm start", warm_start.elites, batch, "K")
            liked = shifted(liked, 0, self.horizon)
        known = torch.cat([plan, known], dim=1)[:, : self.num_samples]
        return known, even.lerp(choices.shares(liked), self.warm_start_weight)

    def _drawn(
        self, probabilities: Tensor, count: int, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """(B, count, H, A) int64, numbers of choices."""
        batch, horizon, components, number = probabilities.shape
        uniform = torch.empty(batch, count, horizon, components, dtype=torch.float64)
        for row, generator in zip(uniform, generators, strict=True):
            row.uniform_(generator=generator)
            again = torch.rand(count, horizon, 1, generator=generator) < self.repeat
            for step in range(1, horizon):
                row[:, step] = row[:, step].where(~again[:, step], row[:, step - 1])
        ends = probabilities.double().cumsum(-1)
        ends = ends / ends[..., -1:]
        values = uniform.movedim(1, -1).contiguous().to(ends.device)  # (B, H, A, count)
        drawn = torch.searchsorted(ends.contiguous(), values, right=True)
        return drawn.clamp(max=number - 1).movedim(-1, 1)
