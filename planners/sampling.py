"""The search that all planners share: sample, evaluate, rank, update.

`SamplingPlanner` is what a planner can be told and the loop; `Search` is one call of it: where it
starts, what it knows, and what it can return.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from planners.cost import (
    Chunks,
    Cost,
    Evaluator,
    Proposed,
    Screen,
    Screened,
    all_finite,
    device_of,
    rankable,
)
from planners.noise import AR1Noise, Noise, NoiseStream, problem_seeds
from planners.plan import (
    ActionSpace,
    Bounds,
    Iteration,
    PlanResult,
    proposed_plans,
    starting_elites,
    starting_mean,
)


@dataclass(frozen=True, kw_only=True)
class SamplingPlanner(ABC):
    """A planner that samples candidates, ranks them by cost and moves towards the good ones.

    The object is its own configuration and keeps no state: use one for any number of problems.
    A new optimiser is a subclass with an `update` and, if need be, its own `draw` or `sample`.
    Raises ValueError for a setting out of its range.
    """

    horizon: int = 10
    """H, the number of actions in a plan."""
    num_samples: int = 200
    """N, the candidates of one iteration."""
    iterations: int = 3
    std: float | Sequence[float] | None = None
    """Initial standard deviation in units of the action, one for all dimensions or one each.
    None: `default_std` of each dimension's range, a quarter unless the planner says otherwise."""
    noise: Noise = AR1Noise(0.5)
    """How the noise is correlated over time. Correlated noise finds smooth plans in few iterations;
    white noise converges more closely over many."""
    antithetic: bool = True
    """Half of the candidates mirror the others at the mean (Hammersley and Morton 1956; in
    evolution strategies, Brockhoff et al. 2010): their noise has mean zero exactly, and half the
    random numbers are half the work."""
    elite_fraction: float = 0.05
    """The share of candidates that are elites, at least two of them; CEM fits them."""

    returns: Literal["mean", "best", "finalist"] = "mean"
    """The plan returned. "mean": the mean of the final distribution. "best": the best candidate
    ever seen; it suits deterministic costs, above all with obstacles, where the mean of two ways
    round is none, and is merely the luckiest one under a noisy cost. "finalist": the mean, unless
    one of the last elites proves better by three standard errors when all are evaluated again."""
    finalists: int = 8
    """How many plans, the mean included, "finalist" evaluates again."""
    reevaluations: int = 8
    """>= 2: how often it evaluates each, every time with new noise."""
    evaluate_plan: bool = True
    """Evaluate the mean that is returned (one more call of the cost, N = 1), and if its cost is
    not finite return the best candidate instead. False: its cost is NaN."""

    common_noise: Literal["plan", "iteration"] = "plan"
    """How long a cost that takes a `seed` gets the same one. "plan": costs can be compared between
    iterations, but the plan is made for this one noise. "iteration": in each iteration all
    candidates meet the same noise, a new one, to which no plan can adapt."""

    chunk_size: int | None = None
    """At most this many candidates a problem in one call of the cost, to bound its memory."""
    max_memory_gb: float | None = None
    """What one call of the cost may take, in 10^9 bytes: chunks are measured and sized to fit.
    The chunks of two runs may differ, and with them the rounding of the costs."""
    max_seconds: float | None = None
    """No iteration begins that would probably end later than this; the first always runs."""
    tolerance: float | None = None
    """Stop when no element of the mean (of the candidates, where gradients move them) moves by more
    than this in an iteration, in any problem; in units of the initial std."""

    default_std: ClassVar[float] = 0.25
    uses_gradients: ClassVar[bool] = False
    """Whether `update` needs `population.gradients`."""

    def __post_init__(self) -> None:
        for name in ("horizon", "num_samples", "iterations", "finalists"):
            check_whole(name, getattr(self, name), 1)
        check_whole("reevaluations", self.reevaluations, 2)
        if self.chunk_size is not None:
            check_whole("chunk_size", self.chunk_size, 1)
        for name in ("max_memory_gb", "max_seconds", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 < as_number(name, value):
                raise ValueError(f"{name} must be positive, not {value}")
        if not 0 < as_number("elite_fraction", self.elite_fraction) <= 1:
            raise ValueError(f"elite_fraction must be in (0, 1], not {self.elite_fraction}")
        if not callable(getattr(self.noise, "matrix", None)):
            raise TypeError(
                f"noise must be one of planners' noises, e.g. AR1Noise(0.5), not {self.noise!r}"
            )
        if self.returns not in ("mean", "best", "finalist"):
            raise ValueError(f"returns must be 'mean', 'best' or 'finalist', not {self.returns!r}")
        if self.common_noise not in ("plan", "iteration"):
            raise ValueError(
                f"common_noise must be 'plan' or 'iteration', not {self.common_noise!r}"
            )
        if self.std is not None:
            values = self.std if isinstance(self.std, Iterable) else [self.std]
            std = tuple(as_number("std", value) for value in values)
            if not all(value >= 0 for value in std):
                raise ValueError(f"std must be finite and not negative, not {self.std}")
            object.__setattr__(self, "std", std)

    @property
    def num_elites(self) -> int:
        """K: one elite would have no spread to search on with."""
        return min(self.num_samples, max(2, round(self.elite_fraction * self.num_samples)))

    def draw(self, search: Search, count: int) -> Tensor:
        """New candidates (B, count, H, A) inside the bounds. Here: the Gaussian, clipped."""
        return search.bounds.clamp_(search.noise.draw(count, search.std, search.mean))

    def sample(self, search: Search) -> Tensor:
        """The candidates (B, N, H, A) of this iteration. Here: what is known, and new ones."""
        known = self.known(search)[:, : self.num_samples]
        count = self.num_samples - known.shape[1]
        if not count:
            return known
        drawn = self.drawn(search, count)
        return torch.cat([known, drawn], dim=1) if known.shape[1] else drawn

    def known(self, search: Search) -> Tensor:
        """Plans (B, K, H, A) that are candidates now whatever is drawn, so that nothing good is
        thrown away. Here, in the first iteration: the warm start, and what the cost proposes."""
        starts_there = search.warm and search.index == 0
        return search.behind_mean(search.proposed) if starts_there else search.proposed

    def drawn(self, search: Search, count: int) -> Tensor:
        """`count` candidates of `draw`; of a Screened cost the most promising of many."""
        if search.screen is None:
            return self.draw(search, count)
        many = self.draw(search, count * search.screen.factor)
        return take_candidates(many, search.screen.order(search.bounds.clamp(many), count))

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
                devices and common random numbers, `Screened` of costs of two fidelities,
                `Proposed` of plans to begin with.
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


@dataclass
class Search:
    """A Gaussian over plans, the cost that judges them, and the best candidates so far."""

    bounds: Bounds
    noise: NoiseStream
    evaluate: Evaluator
    screen: Screen | None
    mean: Tensor  # (B, H, A)
    std: Tensor  # (B, H, A)
    warm: bool  # whether the mean is the plan of a warm start
    proposals: Tensor  # (B, K, H, A), of the cost; K is 0 where it makes none
    elites: Tensor | None  # (B, K, H, A), best first: of the last iteration or the warm start
    elite_costs: Tensor | None = None  # (B, K)
    index: int = 0  # of the iteration
    state: Any = None  # what an optimiser keeps between its iterations
    move: Tensor | None = None  # (B, N, H, A), of candidates that move, where not the mean does
    _ranked: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # of all iterations

    @classmethod
    def begin(
        cls,
        planner: SamplingPlanner,
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
        plans, cost = (cost.plans, cost.cost) if isinstance(cost, Proposed) else (None, cost)
        bounds = Bounds.of(action_space, planner.horizon, device)
        horizon, dims = bounds.low.shape
        fits = getattr(warm_start, "chunk_size", None)

        def evaluator(cost: Cost) -> Evaluator:
            chunks = Chunks(device, planner.chunk_size, planner.max_memory_gb, fits)
            return Evaluator(cost, chunks, seeds)

        return cls(
            bounds=bounds,
            noise=NoiseStream(planner.noise, seeds, horizon, dims, device, planner.antithetic),
            evaluate=evaluator(cost),
            screen=Screen(evaluator(cost.cheap), cost.factor)
            if isinstance(cost, Screened)
            else None,
            mean=starting_mean(warm_start, bounds, batch),
            std=initial_std(planner, bounds).expand(batch, horizon, dims),
            warm=warm_start is not None,
            proposals=proposed_plans(plans, bounds, batch),
            elites=starting_elites(warm_start, bounds),
        )

    @property
    def proposed(self) -> Tensor:
        """(B, K, H, A): the proposals in the first iteration, and none later."""
        return self.proposals[:, :0] if self.index else self.proposals

    def behind_mean(self, plans: Tensor) -> Tensor:
        """(B, 1 + K, H, A): the mean, clipped, and the plans (B, K, H, A)."""
        return torch.cat([self.bounds.clamp(self.mean).unsqueeze(1), plans], dim=1)

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
        """Time spent in the cost function so far."""
        return self.evaluate.seconds + (self.screen.evaluate.seconds if self.screen else 0.0)


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


def initial_std(planner: SamplingPlanner, bounds: Bounds) -> Tensor:
    """(H, A): the planner's, or `default_std` of the bounds' width."""
    if planner.std is None:
        if not bounds.finite:
            raise ValueError("the action space is unbounded: give the planner a std")
        return bounds.width * planner.default_std
    horizon, dims = bounds.low.shape
    given = bounds.low.new_tensor(planner.std)
    if given.numel() not in (1, dims):
        raise ValueError(f"std has {given.numel()} values for {dims} action dimensions")
    return given.expand(horizon, dims).contiguous()


def check_whole(name: str, value: object, least: int) -> None:
    """Raises ValueError, which names it, unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def as_number(name: str, value: object) -> float:
    """`value` as a float; ValueError, which names it, unless it is a finite number."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return number
