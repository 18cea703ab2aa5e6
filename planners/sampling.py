"""Planners that sample candidates from a Gaussian over plans, and move it.

`SamplingPlanner` is what they can be told, and how they go on; `GaussianSearch` is one call: where
it starts, what it knows, and what it can return.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from planners.cost import Cost, Evaluator, Screen, Screened, all_finite, device_of, rankable
from planners.noise import AR1Noise, Noise, NoiseStream
from planners.plan import (
    ActionSpace,
    Bounds,
    Iteration,
    proposed_plans,
    starting_elites,
    starting_mean,
)
from planners.population import Population, PopulationPlanner, Search, take_candidates
from planners.settings import as_number, check_flag, check_limit, check_whole


@dataclass(frozen=True, kw_only=True)
class SamplingPlanner(PopulationPlanner["GaussianSearch"]):
    """A planner that samples real numbers, and moves towards the candidates of low cost.

    A new optimiser is a subclass with an `update` and, if need be, its own `draw` or `sample`.
    """

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

    tolerance: float | None = None
    """Stop when no element of the mean (of the candidates, where gradients move them) moves by more
    than this in an iteration, in any problem; in units of the initial std."""

    default_std: ClassVar[float] = 0.25
    uses_gradients: ClassVar[bool] = False
    """Whether `update` needs `population.gradients`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("finalists", self.finalists, 1)
        check_whole("reevaluations", self.reevaluations, 2)
        check_limit("tolerance", self.tolerance)
        check_flag("antithetic", self.antithetic)
        check_flag("evaluate_plan", self.evaluate_plan)
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

    def begin(
        self,
        cost: Cost,
        action_space: ActionSpace,
        warm_start: Any,
        proposals: Any,
        seeds: Sequence[int],
    ) -> GaussianSearch:
        """From the warm start, or from the middle of the box."""
        device, batch = device_of(cost), len(seeds)
        bounds = Bounds.of(action_space, self.horizon, device)
        horizon, dims = bounds.low.shape

        def evaluator(cost: Cost) -> Evaluator:
            return self.evaluator(cost, device, warm_start, seeds)

        return GaussianSearch(
            bounds=bounds,
            noise=NoiseStream(self.noise, seeds, horizon, dims, device, self.antithetic),
            evaluate=evaluator(cost),
            screen=Screen(evaluator(cost.cheap), cost.factor)
            if isinstance(cost, Screened)
            else None,
            mean=starting_mean(warm_start, bounds, batch),
            std=initial_std(self, bounds).expand(batch, horizon, dims),
            warm=warm_start is not None,
            proposals=proposed_plans(proposals, bounds, batch),
            elites=starting_elites(warm_start, bounds),
        )

    def iterate(self, search: GaussianSearch) -> Iteration:
        """Judge the candidates of `sample`, and `update`."""
        if search.index and self.common_noise == "iteration":
            search.evaluate.renew_noise()
        before = search.mean
        judge = search.differentiated if self.uses_gradients else search.evaluated
        population = judge(self.sample(search), self.num_elites)
        self.update(search, population)
        if self.tolerance is not None:
            move = (search.mean - before).unsqueeze(1) if search.move is None else search.move
            allowed = self.tolerance * initial_std(self, search.bounds)
            search.settled = bool((move.abs() <= allowed).all())
        return Iteration(search.index, population.costs, search.mean, search.std)

    def draw(self, search: GaussianSearch, count: int) -> Tensor:
        """New candidates (B, count, H, A) inside the bounds. Here: the Gaussian, clipped."""
        return search.bounds.clamp_(search.noise.draw(count, search.std, search.mean))

    def sample(self, search: GaussianSearch) -> Tensor:
        """The candidates (B, N, H, A) of this iteration. Here: what is known, and new ones."""
        known = self.known(search)[:, : self.num_samples]
        count = self.num_samples - known.shape[1]
        if not count:
            return known
        drawn = self.drawn(search, count)
        return torch.cat([known, drawn], dim=1) if known.shape[1] else drawn

    def known(self, search: GaussianSearch) -> Tensor:
        """Plans (B, K, H, A) that are candidates now whatever is drawn, so that nothing good is
        thrown away. Here, in the first iteration: the warm start, and what the cost proposes."""
        starts_there = search.warm and search.index == 0
        return search.behind_mean(search.proposed) if starts_there else search.proposed

    def drawn(self, search: GaussianSearch, count: int) -> Tensor:
        """`count` candidates of `draw`; of a Screened cost the most promising of many."""
        if search.screen is None:
            return self.draw(search, count)
        many = self.draw(search, count * search.screen.factor)
        return take_candidates(many, search.screen.order(search.bounds.clamp(many), count))

    @abstractmethod
    def update(self, search: GaussianSearch, population: Population) -> None:
        """Set `search.mean` and `search.std` to new tensors, from the evaluated candidates."""

    def choose(self, search: GaussianSearch) -> tuple[Tensor, Tensor]:
        """The plan to return (B, H, A) and its cost (B,), after the last iteration."""
        if self.returns == "best":
            return search.best()
        if self.returns == "finalist":
            return search.finalist(self.finalists - 1, self.reevaluations)
        if self.evaluate_plan:
            return search.evaluated_mean()
        mean = search.bounds.clamp(search.mean)
        return mean, mean.new_full(mean.shape[:1], torch.nan)


@dataclass(kw_only=True)
class GaussianSearch(Search):
    """A Gaussian over plans, and the best candidates of all iterations. `elites` are those of the
    last iteration or of the warm start."""

    bounds: Bounds
    noise: NoiseStream
    screen: Screen | None
    mean: Tensor  # (B, H, A)
    std: Tensor  # (B, H, A)
    warm: bool  # whether the mean is the plan of a warm start
    proposals: Tensor  # (B, K, H, A), of the cost; K is 0 where it makes none
    state: Any = None  # what an optimiser keeps between its iterations
    move: Tensor | None = None  # (B, N, H, A), of candidates that move, where not the mean does
    _ranked: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # of all iterations

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
        """Time spent in the cost function and the cheap one so far."""
        screening = 0.0 if self.screen is None else self.screen.evaluate.seconds
        return super().cost_seconds + screening


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
