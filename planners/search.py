"""One call of `plan`: what it starts from, what it knows, and what it can return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from planners.bounds import ActionSpace, Bounds
from planners.chunks import Chunks
from planners.evaluation import Cost, Evaluator, Population, all_finite, device_of
from planners.noise import NoiseStream, noise_seeds, problem_seeds
from planners.screening import Screen, Screened
from planners.settings import Settings
from planners.start import initial_elites, initial_mean, initial_std


@dataclass
class Search:
    """A Gaussian over plans, the cost that judges them, and the best candidates so far."""

    bounds: Bounds
    noise: NoiseStream
    evaluate: Evaluator
    screen: Screen | None
    seeds: list[int]  # one per problem
    mean: Tensor  # (B, H, A)
    std: Tensor  # (B, H, A)
    elites: Tensor | None  # (B, K, H, A), best first: of the last iteration or the warm start
    elite_costs: Tensor | None = None  # (B, K)
    index: int = 0  # of the iteration
    own: Any = None  # what an optimiser keeps between its iterations
    _bests: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        settings: Settings,
        cost: Cost,
        action_space: ActionSpace,
        warm_start: Any,
        seed: int | Sequence[int] | torch.Generator,
        batch: int,
    ) -> Search:
        """Raises ValueError when an argument of `plan` does not fit."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        device, seeds = device_of(cost), problem_seeds(seed, batch)
        bounds = Bounds.of(action_space, settings.horizon, device)
        horizon, dims = bounds.low.shape
        fits = getattr(warm_start, "chunk_size", None)

        def evaluator(cost: Cost) -> Evaluator:
            chunks = Chunks(device, settings.chunk_size, settings.max_memory_gb, fits)
            return Evaluator(cost, chunks, seeds)

        return cls(
            bounds=bounds,
            noise=NoiseStream(settings.noise, seeds, horizon, dims, device),
            evaluate=evaluator(cost),
            screen=Screen(evaluator(cost.cheap), cost.factor)
            if isinstance(cost, Screened)
            else None,
            seeds=seeds,
            mean=initial_mean(warm_start, bounds, batch),
            std=initial_std(settings.std, bounds).expand(batch, horizon, dims),
            elites=initial_elites(warm_start, bounds),
        )

    def evaluated(self, actions: Tensor, num_elites: int, gradients: bool = False) -> Population:
        """The candidates (B, N, H, A), judged and ranked.

        Raises ValueError when a problem has no candidate of finite cost.
        """
        if gradients:
            costs, slopes = self.evaluate.with_gradients(actions)
            population = Population.ranked(actions, costs, num_elites, slopes)
        else:
            population = Population.ranked(actions, self.evaluate(actions), num_elites)
        self.elites, self.elite_costs = population.elites, population.elite_costs
        self._bests.append((self.elites[:, 0], self.elite_costs[:, 0]))
        return population

    def best(self) -> tuple[Tensor, Tensor]:
        """The best candidate ever (B, H, A), of equal ones the first, and its cost (B,)."""
        best, best_cost = self._bests[0]
        for actions, cost in self._bests[1:]:
            better = cost < best_cost
            best = torch.where(better[:, None, None], actions, best)
            best_cost = torch.where(better, cost, best_cost)
        return best, best_cost

    def evaluated_mean(self) -> tuple[Tensor, Tensor]:
        """The mean (B, H, A) and its cost (B,); where that is not finite, the best candidate."""
        mean = self.bounds.clamp(self.mean)
        cost = self.evaluate(mean.unsqueeze(1)).squeeze(1)
        if all_finite(cost):
            return mean, cost
        valid, (best, best_cost) = cost.isfinite(), self.best()
        return torch.where(valid[:, None, None], mean, best), torch.where(valid, cost, best_cost)

    def best_on_average(self, others: int, times: int) -> tuple[Tensor, Tensor]:
        """Of the mean and the best `others` elites, the one of lowest cost over `times` noises."""
        assert self.elites is not None
        mean = self.bounds.clamp(self.mean)
        finalists = torch.cat([mean.unsqueeze(1), self.elites[:, :others]], dim=1)
        total = torch.stack(
            [self.evaluate(finalists, seed) for seed in noise_seeds(self.seeds, times + 1)[1:]]
        ).mean(dim=0)
        winners = Population.ranked(finalists, total, 1)
        return winners.elites[:, 0], winners.elite_costs[:, 0]

    @property
    def cost_seconds(self) -> float:
        return self.evaluate.seconds + (self.screen.evaluate.seconds if self.screen else 0.0)
