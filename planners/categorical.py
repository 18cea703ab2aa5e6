"""The cross-entropy method over choices: latent codes, buttons, any MultiDiscrete space."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from planners.choices import Choices
from planners.cost import Chunks, Cost, Evaluator, Proposed, device_of, rankable
from planners.noise import problem_seeds
from planners.plan import ActionSpace, Iteration, PlanResult, shifted
from planners.sampling import Population, as_number, check_whole


@dataclass(frozen=True, kw_only=True)
class CategoricalCEM:
    """Fit a categorical distribution of every component of every step to the elites.

    Rubinstein and Kroese, The Cross-Entropy Method, 2004, section 4. The elites are the best
    candidates so far, of all iterations; the best of them is the plan. The object is its own
    configuration and keeps no state. Raises ValueError for a setting out of its range.
    """

    horizon: int = 10
    """H, the number of actions in a plan."""
    num_samples: int = 200
    """N, the candidates of one iteration."""
    iterations: int = 3
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
    chunk_size: int | None = None
    """At most this many candidates a problem in one call of the cost, to bound its memory."""
    max_memory_gb: float | None = None
    """What one call of the cost may take, in 10^9 bytes."""
    max_seconds: float | None = None
    """No iteration begins that would probably end later than this; the first always runs."""

    def __post_init__(self) -> None:
        for name in ("horizon", "num_samples", "iterations"):
            check_whole(name, getattr(self, name), 1)
        if self.chunk_size is not None:
            check_whole("chunk_size", self.chunk_size, 1)
        if not 0 < as_number("elite_fraction", self.elite_fraction) <= 1:
            raise ValueError(f"elite_fraction must be in (0, 1], not {self.elite_fraction}")
        for name in ("smoothing", "repeat", "warm_start_weight"):
            if not 0 <= as_number(name, getattr(self, name)) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        for name in ("max_memory_gb", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not as_number(name, value) > 0:
                raise ValueError(f"{name} must be positive, not {value}")

    @property
    def num_elites(self) -> int:
        """K."""
        return min(self.num_samples, max(2, round(self.elite_fraction * self.num_samples)))

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
            cost: `cost(actions)`, int64 (B, N, H, A) -> (B, N), lower is better; otherwise as for
                `SamplingPlanner.plan`. Of a `Screened` cost the true one alone is asked.
            action_space: anything with `nvec` (A,), the number of choices of each component, e.g.
                Gymnasium's MultiDiscrete.
            warm_start: the previous PlanResult, shifted, or whole numbers (B, h, A). It is a
                candidate, and what the search begins near to.
            seed: an int, one int per problem, or a torch.Generator; the same one gives the same
                plan, whatever the batch.
            batch: B.
            callback: called with every Iteration as it ends.

        Returns:
            A PlanResult whose `actions` are int64 (B, H, A), without `mean` and `std`.

        Raises:
            ValueError: the action space, warm start, seed or the cost's shape does not fit, or
                no candidate of a problem has a finite cost.
        """
        start = time.perf_counter()
        check_whole("batch", batch, 1)
        device, seeds = device_of(cost), problem_seeds(seed, batch)
        plans, cost = (cost.plans, cost.cost) if isinstance(cost, Proposed) else (None, cost)
        choices = Choices.of(action_space, device)
        fits = getattr(warm_start, "chunk_size", None)
        evaluate = Evaluator(cost, Chunks(device, self.chunk_size, self.max_memory_gb, fits), seeds)
        generators = [torch.Generator().manual_seed(each) for each in seeds]
        known, probabilities = self._beginning(choices, warm_start, plans, batch)
        elites, elite_costs = known[:, :0], torch.empty(batch, 0, device=device)
        history: list[Iteration] = []
        for index in range(self.iterations):
            drawn = self._drawn(probabilities, self.num_samples - known.shape[1], generators)
            actions = torch.cat([known, choices.low + drawn], dim=1)
            costs = rankable(evaluate(actions))
            population = Population.ranked(
                torch.cat([elites, actions], 1), torch.cat([elite_costs, costs], 1), self.num_elites
            )
            elites, elite_costs = population.elites, population.elite_costs
            shares = choices.shares(elites)
            probabilities = shares.lerp(probabilities, self.smoothing)
            known = known[:, :0]
            history.append(Iteration(index, costs))
            if callback is not None:
                callback(history[-1])
            if self.max_seconds is not None:
                passed = time.perf_counter() - start
                if passed + passed / len(history) > self.max_seconds:
                    break
        return PlanResult(
            actions=elites[:, 0],
            cost=elite_costs[:, 0],
            elites=elites,
            elite_costs=elite_costs,
            history=tuple(history),
            cost_seconds=evaluate.seconds,
            planner_seconds=time.perf_counter() - start - evaluate.seconds,
            chunk_size=evaluate.chunk_size,
        )

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
        self, probabilities: Tensor, count: int, generators: list[torch.Generator]
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
