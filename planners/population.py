"""The loop that all planners share: iteration after iteration candidates are made, evaluated and
ranked, within a budget.

`PopulationPlanner` is what each can be told, and the loop; `Search` is one call of it; a
`Population` is the candidates of one iteration.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from planners.cost import Chunks, Cost, Evaluator, Proposed, all_finite, rankable
from planners.noise import problem_seeds
from planners.plan import ActionSpace, Iteration, PlanResult
from planners.settings import as_number, check_limit, check_whole

S = TypeVar("S", bound="Search")


@dataclass(frozen=True, kw_only=True)
class PopulationPlanner(ABC, Generic[S]):
    """A planner that evaluates N candidates an iteration and learns from the best of them.

    The object is its own configuration and keeps no state: use one for any number of problems.
    Raises ValueError for a setting out of its range.
    """

    horizon: int = 10
    """H, the number of actions in a plan."""
    num_samples: int = 200
    """N, the candidates of one iteration."""
    iterations: int = 3
    elite_fraction: float = 0.05
    """The share of candidates that are elites, at least two of them."""

    chunk_size: int | None = None
    """At most this many candidates a problem in one call of the cost, to bound its memory."""
    max_memory_gb: float | None = None
    """What one call of the cost may take, in 10^9 bytes: chunks are measured and sized to fit.
    The chunks of two runs may differ, and with them the rounding of the costs."""
    max_seconds: float | None = None
    """No iteration begins that would probably end later than this; the first always runs."""

    def __post_init__(self) -> None:
        for name in ("horizon", "num_samples", "iterations"):
            check_whole(name, getattr(self, name), 1)
        if self.chunk_size is not None:
            check_whole("chunk_size", self.chunk_size, 1)
        for name in ("max_memory_gb", "max_seconds"):
            check_limit(name, getattr(self, name))
        if not 0 < as_number("elite_fraction", self.elite_fraction) <= 1:
            raise ValueError(f"elite_fraction must be in (0, 1], not {self.elite_fraction}")

    @property
    def num_elites(self) -> int:
        """K: one elite would have no spread to search on with."""
        return min(self.num_samples, max(2, round(self.elite_fraction * self.num_samples)))

    @abstractmethod
    def begin(
        self,
        cost: Cost,
        action_space: ActionSpace,
        warm_start: Any,
        proposals: Any,
        seeds: Sequence[int],
    ) -> S:
        """A search for one problem a seed. `proposals`: plans that the cost came with, or None.

        Raises ValueError when an argument of `plan` does not fit.
        """

    @abstractmethod
    def iterate(self, search: S) -> Iteration:
        """Evaluate candidates, and set the search's elites and what the next ones are made of."""

    def choose(self, search: S) -> tuple[Tensor, Tensor]:
        """The plan to return (B, H, A) and its cost (B,), after the last iteration. Here: the best
        elite."""
        return search.best_elite()

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
            cost: `cost(actions)`, float32 (B, N, H, A) -> (B, N), lower is better; int64 where the
                actions are choices. `Cost` tells of devices and common random numbers, `Screened`
                of costs of two fidelities, `Proposed` of plans to begin with.
            action_space: anything with `low`, `high` and `shape` (A,), e.g. Gymnasium's Box; for
                choices with `nvec` (A,), the number of them each component has, e.g. MultiDiscrete.
            warm_start: where the search starts, its first action being the next to be done: the
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
        check_whole("batch", batch, 1)
        seeds = problem_seeds(seed, batch)
        plans, cost = (cost.plans, cost.cost) if isinstance(cost, Proposed) else (None, cost)
        search = self.begin(cost, action_space, warm_start, plans, seeds)
        history: list[Iteration] = []
        for search.index in range(self.iterations):
            history.append(self.iterate(search))
            if callback is not None:
                callback(history[-1])
            if search.settled:
                break
            if self.max_seconds is not None:
                passed = time.perf_counter() - start
                if passed + passed / len(history) > self.max_seconds:
                    break
        actions, plan_cost = self.choose(search)
        return PlanResult(
            actions=actions,
            cost=plan_cost,
            mean=history[-1].mean,
            std=history[-1].std,
            elites=search.elites,
            elite_costs=search.elite_costs,
            history=tuple(history),
            cost_seconds=search.cost_seconds,
            planner_seconds=time.perf_counter() - start - search.cost_seconds,
            chunk_size=search.evaluate.chunk_size,
        )

    def evaluator(
        self, cost: Cost, device: torch.device, warm_start: Any, seeds: Sequence[int]
    ) -> Evaluator:
        """What calls the cost, in chunks within the budget."""
        fits = getattr(warm_start, "chunk_size", None)
        chunks = Chunks(device, self.chunk_size, self.max_memory_gb, fits)
        return Evaluator(cost, chunks, seeds)


@dataclass(kw_only=True)
class Search:
    """The cost that judges candidates, and the best of these."""

    evaluate: Evaluator
    elites: Tensor | None = None  # (B, K, H, A), best first
    elite_costs: Tensor | None = None  # (B, K)
    index: int = 0  # of the iteration
    settled: bool = False  # whether to stop before the last iteration

    @property
    def cost_seconds(self) -> float:
        """Time spent in the cost function so far."""
        return self.evaluate.seconds

    def best_elite(self) -> tuple[Tensor, Tensor]:
        """(B, H, A) and its cost (B,)."""
        assert self.elites is not None and self.elite_costs is not None
        return self.elites[:, 0], self.elite_costs[:, 0]


@dataclass(frozen=True)
class Population:
    """The candidates of one iteration, the elites sorted by cost, best first.

    `elites` holds finite candidates only: where a problem has fewer than K, its best is repeated.
    """

    actions: Tensor  # (B, N, H, A)
    costs: Tensor  # (B, N), +inf where the cost was not finite
    elites: Tensor  # (B, K, H, A)
    elite_costs: Tensor  # (B, K)
    order: Tensor  # (B, K), the numbers of the elites among the candidates
    gradients: Tensor | None = None  # (B, N, H, A), of the costs

    @classmethod
    def ranked(cls, actions: Tensor, costs: Tensor, num_elites: int) -> Population:
        """Raises ValueError when a problem has no candidate of finite cost."""
        finite = all_finite(costs)
        costs = costs if finite else rankable(costs)
        elite_costs, index = costs.topk(num_elites, dim=1, largest=False)
        if not finite:
            hopeless = elite_costs[:, 0].isinf().nonzero().flatten().tolist()
            if hopeless:
                raise ValueError(
                    f"every one of the {costs.shape[1]} candidates of problem {hopeless} has a NaN "
                    "or infinite cost: check the cost function, or give a warm start that it allows"
                )
            index = torch.where(elite_costs.isinf(), index[:, :1], index)
            elite_costs = costs.gather(1, index)
        return cls(actions, costs, take_candidates(actions, index), elite_costs, index)


def take_candidates(actions: Tensor, index: Tensor) -> Tensor:
    """(B, K, H, A): the candidates (B, N, H, A) that `index` (B, K) names."""
    if index.shape[0] == 1:
        return actions.index_select(1, index[0])
    return actions[torch.arange(index.shape[0], device=index.device).unsqueeze(1), index]
