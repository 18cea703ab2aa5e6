"""The loop that all planners share: sample, evaluate, rank, update."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from planners.bounds import ActionSpace
from planners.evaluation import Cost, Population, picked
from planners.result import Iteration, PlanResult
from planners.search import Search
from planners.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SamplingPlanner(Settings, ABC):
    """A planner that samples candidates, ranks them by cost and moves towards the good ones.

    The object is its own configuration and keeps no state: use one for any number of problems.
    A new optimiser is a subclass with an `update` and, if need be, its own `draw` or `sample`.
    """

    uses_gradients: ClassVar[bool] = False
    """Whether `update` needs `population.gradients`."""

    def draw(self, search: Search, count: int) -> Tensor:
        """New candidates (B, count, H, A) inside the bounds. Here: the Gaussian, clipped."""
        return search.bounds.clamp_(search.noise.draw(count, search.std, search.mean))

    def sample(self, search: Search) -> Tensor:
        """The candidates (B, N, H, A) of this iteration. Here: all new."""
        return self.drawn(search, self.num_samples)

    def drawn(self, search: Search, count: int) -> Tensor:
        """`count` candidates of `draw`; of a Screened cost the most promising of many."""
        if search.screen is None:
            return self.draw(search, count)
        many = self.draw(search, count * search.screen.factor)
        return picked(many, search.screen.order(search.bounds.clamp(many), count))

    @abstractmethod
    def update(self, search: Search, population: Population) -> None:
        """Set `search.mean` and `search.std` to new tensors, from the evaluated candidates."""

    def choose(self, search: Search) -> tuple[Tensor, Tensor]:
        """The plan to return (B, H, A) and its cost (B,), after the last iteration."""
        if self.returns == "best":
            return search.best()
        if self.returns == "finalist":
            return search.finalist(self.finalists - 1, self.reevaluations)
        if self.evaluate_plan:
            return search.evaluated_mean()
        mean = search.bounds.clamp(search.mean)
        return mean, mean.new_full(mean.shape[:1], torch.nan)

    @torch.no_grad()
    def plan(
        self,
        cost: Cost,
        action_space: ActionSpace,
        *,
        warm_start: PlanResult | Any = None,
        seed: int | Sequence[int] | torch.Generator = 0,
        batch: int = 1,
        callback: Callable[[Iteration], object] | None = None,
    ) -> PlanResult:
        """Minimise `cost` for `batch` independent problems.

        Args:
            cost: `cost(actions)`, float32 (B, N, H, A) -> (B, N), lower is better. `Cost` tells of
                devices and common random numbers, `Screened` of costs of two fidelities.
            action_space: anything with `low`, `high` and `shape` (A,), e.g. Gymnasium's Box.
            warm_start: where the mean starts, its first action being the next to be done: the
                previous PlanResult, shifted (`plan.shift(1)` one step later), or a tensor or
                array (B, h, A). Repeats its last action up to the horizon, or is cut to it.
            seed: an int, one int per problem, or a torch.Generator. Every problem draws from a
                generator of its own and sees the same numbers whatever the batch: row b of a
                batch with seeds `[s0, s1, ...]` is the plan of that problem alone with seed `sb`,
                up to the rounding of the cost, and unless `max_seconds` or `tolerance` is set
                or the cost takes a `seed`, which is one for the whole batch.
                The same seed gives the same bits; global random state is never touched.
            batch: B.
            callback: called with every Iteration as it ends.

        Raises:
            ValueError: the action space, warm start, seed or the cost's shape does not fit, or
                no candidate of a problem has a finite cost.
        """
        start = time.perf_counter()
        search = Search.begin(self, cost, action_space, warm_start, seed, batch)
        history: list[Iteration] = []
        initial_std = search.std
        for search.index in range(self.iterations):
            before = search.mean
            if search.index and self.common_noise == "iteration":
                search.evaluate.renew_noise()
            history.append(self._iterate(search))
            if callback is not None:
                callback(history[-1])
            if self.tolerance is not None:
                move = (search.mean - before).unsqueeze(1) if search.move is None else search.move
                if bool((move.abs() <= self.tolerance * initial_std.unsqueeze(1)).all()):
                    break
            if self.max_seconds is not None:
                passed = time.perf_counter() - start
                if passed + passed / len(history) > self.max_seconds:
                    break
        actions, plan_cost = self.choose(search)
        return PlanResult(
            actions=actions,
            cost=plan_cost,
            mean=search.mean,
            std=search.std,
            elites=search.elites,
            elite_costs=search.elite_costs,
            history=tuple(history),
            cost_seconds=search.cost_seconds,
            planner_seconds=time.perf_counter() - start - search.cost_seconds,
            chunk_size=search.evaluate.chunk_size,
        )

    def _iterate(self, search: Search) -> Iteration:
        judge = search.differentiated if self.uses_gradients else search.evaluated
        population = judge(self.sample(search), self.num_elites)
        self.update(search, population)
        return Iteration(search.index, population.costs, search.mean, search.std)
