"""One call of `plan`: what it starts from, what it knows, and what it can return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from planners.bounds import ActionSpace, Bounds
from planners.chunks import Chunks
from planners.evaluation import Cost, Evaluator, Population, all_finite, device_of, rankable
from planners.noise import NoiseStream, problem_seeds
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
    mean: Tensor  # (B, H, A)
    std: Tensor  # (B, H, A)
    elites: Tensor | None  # (B, K, H, A), best first: of the last iteration or the warm start
    elite_costs: Tensor | None = None  # (B, K)
    index: int = 0  # of the iteration
    own: Any = None  # what an optimiser keeps between its iterations
    move: Tensor | None = None  # (B, N, H, A), of candidates that move, where not the mean does
    _ranked: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # of all iterations

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
            noise=NoiseStream(settings.noise, seeds, horizon, dims, device, settings.antithetic),
            evaluate=evaluator(cost),
            screen=Screen(evaluator(cost.cheap), cost.factor)
            if isinstance(cost, Screened)
            else None,
            mean=initial_mean(warm_start, bounds, batch),
            std=initial_std(settings, bounds).expand(batch, horizon, dims),
            elites=initial_elites(warm_start, bounds),
        )

    def evaluated(self, actions: Tensor, num_elites: int) -> Population:
        """The candidates (B, N, H, A), judged and ranked.

        Raises ValueError when a problem has no candidate of finite cost.
        """
        return self._record(Population.ranked(actions, self.evaluate(actions), num_elites))

    def differentiated(self, actions: Tensor, num_elites: int) -> Population:
        """The same with gradients, for candidates that move: the elites are the best so far, so
        that it is enough if a problem once had a candidate of finite cost.
        """
        costs, gradients = self.evaluate.with_gradients(actions)
        costs = rankable(costs)
        known, known_costs = actions, costs
        if self._ranked:
            elites, elite_costs = self._ranked[-1]
            known, known_costs = torch.cat([actions, elites], 1), torch.cat([costs, elite_costs], 1)
        ranked = Population.ranked(known, known_costs, num_elites)
        return self._record(replace(ranked, actions=actions, costs=costs, gradients=gradients))

    def _record(self, population: Population) -> Population:
        self.elites, self.elite_costs = population.elites, population.elite_costs
        self._ranked.append((self.elites, self.elite_costs))
        return population

    def best(self) -> tuple[Tensor, Tensor]:
        """The best candidate ever (B, H, A), of equal ones the first, and its cost (B,)."""
        (best, best_cost), *others = ((elites[:, 0], costs[:, 0]) for elites, costs in self._ranked)
        for actions, cost in others:
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

    def finalist(self, others: int, times: int) -> tuple[Tensor, Tensor]:
        """The mean, unless one of the best `others` elites is better by three standard errors over
        `times` evaluations: then the one for which that margin is largest. And its average cost.
        """
        assert self.elites is not None
        mean = self.bounds.clamp(self.mean).unsqueeze(1)
        plans = torch.cat([mean, self.elites[:, :others]], dim=1)
        costs = []
        for _ in range(times):
            self.evaluate.renew_noise()
            costs.append(rankable(self.evaluate(plans)))
        rounds = torch.stack(costs)
        average, advantage = rounds.mean(dim=0), rounds - rounds[..., :1]
        score = advantage.mean(dim=0) + 3 * advantage.std(dim=0) / times**0.5
        score = torch.where(score.isfinite() & average.isfinite(), score, average)
        winners = Population.ranked(plans, score, 1).elites[:, 0]
        return winners, average.gather(1, score.argmin(dim=1, keepdim=True)).squeeze(1)

    @property
    def cost_seconds(self) -> float:
        return self.evaluate.seconds + (self.screen.evaluate.seconds if self.screen else 0.0)
