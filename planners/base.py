"""The loop that all sampling planners share: sample, evaluate, rank, update."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from planners.bounds import ActionSpace, Bounds
from planners.evaluation import Cost, Evaluator, Population
from planners.noise import AR1Noise, Noise, NoiseStream, problem_seeds
from planners.result import Iteration, PlanResult, shifted


@dataclass
class Search:
    """The state of one call of `plan`: a Gaussian over plans, and the best candidate so far."""

    bounds: Bounds
    mean: Tensor  # (B, H, A)
    std: Tensor  # (B, H, A)
    population: Population | None = None  # the latest
    best: Tensor | None = None  # (B, H, A)
    best_cost: Tensor | None = None  # (B,)

    def record(self, population: Population) -> None:
        self.population = population
        best, best_cost = population.elites[:, 0], population.elite_costs[:, 0]
        if self.best is not None and self.best_cost is not None:
            better = best_cost < self.best_cost
            best = torch.where(better[:, None, None], best, self.best)
            best_cost = torch.where(better, best_cost, self.best_cost)
        self.best, self.best_cost = best, best_cost


@dataclass(frozen=True, kw_only=True)
class SamplingPlanner(ABC):
    """A planner that samples candidates, ranks them by cost and moves towards the good ones.

    The object is its own configuration and keeps no state: use one for any number of problems.
    A new optimiser is a subclass with an `update` and, if need be, its own `sample`.
    """

    horizon: int = 10
    """H, the number of actions in a plan."""
    num_samples: int = 200
    """N, the candidates of one iteration."""
    iterations: int = 3
    std: float | Sequence[float] | None = None
    """Initial standard deviation in units of the action, one for all dimensions or one each.
    None: a quarter of each dimension's range."""
    noise: Noise = AR1Noise(0.5)
    """How the noise is correlated over time. Correlated noise finds smooth plans in few iterations;
    white noise converges more closely over many."""
    elite_fraction: float = 0.05
    """The share of candidates that are elites, at least one; CEM fits them."""
    returns: Literal["mean", "best"] = "mean"
    """The plan returned: the mean of the final distribution or the best candidate ever seen. The
    best suits deterministic costs, above all with obstacles, where the mean of two ways round is
    none; under a noisy cost it is merely the luckiest."""
    evaluate_plan: bool = True
    """Evaluate the mean that is returned (one more call of the cost, N = 1), and if its cost is
    not finite return the best candidate instead. False: its cost is NaN."""
    chunk_size: int | None = None
    """At most this many candidates a problem in one call of the cost, to bound its memory."""

    def __post_init__(self) -> None:
        for name in ("horizon", "num_samples", "iterations", "chunk_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not 0 < self.elite_fraction <= 1:
            raise ValueError(f"elite_fraction must be in (0, 1], not {self.elite_fraction}")
        if self.returns not in ("mean", "best"):
            raise ValueError(f"returns must be 'mean' or 'best', not {self.returns!r}")
        if self.std is not None:
            values = self.std if isinstance(self.std, Iterable) else [self.std]
            std = tuple(float(value) for value in values)
            if not all(0 <= value < float("inf") for value in std):
                raise ValueError(f"std must be finite and not negative, not {self.std}")
            object.__setattr__(self, "std", std)

    def sample(self, search: Search, noise: NoiseStream) -> Tensor:
        """Candidates (B, N, H, A), inside the bounds. Here: the Gaussian, clipped."""
        candidates = noise.draw(self.num_samples)
        candidates.mul_(search.std.unsqueeze(1)).add_(search.mean.unsqueeze(1))
        return candidates.clamp_(search.bounds.low, search.bounds.high)

    @abstractmethod
    def update(self, search: Search, population: Population) -> None:
        """Set `search.mean` and `search.std` to new tensors, from the evaluated candidates."""

    def plan(
        self,
        cost: Cost,
        action_space: ActionSpace,
        *,
        warm_start: PlanResult | Any = None,
        seed: int | Sequence[int] | torch.Generator = 0,
        batch: int = 1,
        callback: Callable[[Iteration], None] | None = None,
    ) -> PlanResult:
        """Minimise `cost` for `batch` independent problems.

        Args:
            cost: `cost(actions)`, float32 (B, N, H, A) -> (B, N), lower is better.
            action_space: anything with `low`, `high` and `shape` (A,), e.g. Gymnasium's Box.
            warm_start: where the mean starts, its first action being the next to be done: the
                previous PlanResult, shifted (`plan.shift(1)` one step later), or a tensor or
                array (B, h, A). Repeats its last action up to the horizon, or is cut to it.
            seed: an int, one int per problem, or a torch.Generator. Every problem draws from a
                generator of its own and sees the same numbers whatever the batch: row b of a
                batch with seeds `[s0, s1, ...]` is the plan of that problem alone with seed `sb`,
                up to the rounding of the cost.
                The same seed gives the same bits; global random state is never touched.
            batch: B.
            callback: called with every Iteration as it ends.

        Raises:
            ValueError: the action space, warm start, seed or the cost's shape does not fit, or
                no candidate of a problem has a finite cost.
        """
        start = time.perf_counter()
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        evaluate = Evaluator(cost, self.chunk_size)
        bounds = Bounds.of(action_space, self.horizon, evaluate.device)
        horizon, dims = bounds.low.shape
        noise = NoiseStream(self.noise, problem_seeds(seed, batch), horizon, dims, evaluate.device)
        search = Search(
            bounds,
            mean=self._initial_mean(bounds, warm_start, batch),
            std=self._initial_std(bounds).expand(batch, horizon, dims),
        )
        history = []
        for index in range(self.iterations):
            actions = self.sample(search, noise)
            population = Population.ranked(actions, evaluate(actions), self._num_elites)
            search.record(population)
            self.update(search, population)
            history.append(Iteration(index, population.costs, search.mean, search.std))
            if callback is not None:
                callback(history[-1])
        actions, plan_cost = self._choose(search, evaluate)
        return PlanResult(
            actions=actions,
            cost=plan_cost,
            mean=search.mean,
            std=search.std,
            elites=population.elites,
            elite_costs=population.elite_costs,
            history=tuple(history),
            cost_seconds=evaluate.seconds,
            planner_seconds=time.perf_counter() - start - evaluate.seconds,
        )

    @property
    def _num_elites(self) -> int:
        return max(1, round(self.elite_fraction * self.num_samples))

    def _initial_std(self, bounds: Bounds) -> Tensor:
        horizon, dims = bounds.low.shape
        if self.std is None:
            if not bounds.finite:
                raise ValueError("the action space is unbounded: give the planner a std")
            return (bounds.high - bounds.low) / 4
        std = bounds.low.new_tensor(self.std)
        if std.numel() not in (1, dims):
            raise ValueError(f"std has {std.numel()} values for {dims} action dimensions")
        return std.expand(horizon, dims)

    def _initial_mean(self, bounds: Bounds, warm_start: Any, batch: int) -> Tensor:
        horizon, dims = bounds.low.shape
        if warm_start is None:
            return bounds.centre().expand(batch, horizon, dims)
        actions = warm_start.actions if isinstance(warm_start, PlanResult) else warm_start
        actions = torch.as_tensor(actions, dtype=torch.float32, device=bounds.low.device)
        if actions.ndim != 3 or actions.shape[::2] != (batch, dims) or not actions.shape[1]:
            raise ValueError(
                f"the warm start has shape {tuple(actions.shape)}: it must be (B, h, A) "
                f"= ({batch}, h, {dims}) with at least one step"
            )
        if not bool(actions.isfinite().all()):
            raise ValueError("the warm start contains NaN or infinite actions")
        return bounds.clamp(shifted(actions, 0, horizon))

    def _choose(self, search: Search, evaluate: Evaluator) -> tuple[Tensor, Tensor]:
        """The plan to return (B, H, A) and its cost (B,)."""
        assert search.best is not None and search.best_cost is not None
        if self.returns == "best":
            return search.best.clone(), search.best_cost
        mean = search.bounds.clamp(search.mean)
        if not self.evaluate_plan:
            return mean, torch.full_like(search.best_cost, torch.nan)
        cost = evaluate(mean.unsqueeze(1)).squeeze(1)
        valid = cost.isfinite()
        actions = torch.where(valid[:, None, None], mean, search.best)
        return actions, torch.where(valid, cost, search.best_cost)
