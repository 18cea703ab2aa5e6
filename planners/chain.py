"""Planners one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from planners.cost import Cost
from planners.plan import ActionSpace, Iteration, PlanResult
from planners.sampling import SamplingPlanner


@dataclass(frozen=True)
class Chain:
    """Each planner starts from the plan and the elites of the one before it.

        Chain([CEM(horizon=10), LBFGS(horizon=10, iterations=10)])

    is CEM with gradient refinement: sampling finds the valley, the gradients its floor
    (Bharadhwaj et al. 2020; Huang et al. 2021, CEM-GD). The refinement returns the best of all
    that it evaluated, the plan it was given among them.
    """

    planners: Sequence[SamplingPlanner]

    def __post_init__(self) -> None:
        if not self.planners:
            raise ValueError("a chain needs at least one planner")
        if len({planner.horizon for planner in self.planners}) > 1:
            raise ValueError("the planners of a chain must have the same horizon")

    @property
    def horizon(self) -> int:
        """That of its planners."""
        return self.planners[0].horizon

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
        """As `PopulationPlanner.plan`; history and times are those of all together."""
        results: list[PlanResult] = []
        for planner in self.planners:
            start = results[-1] if results else warm_start
            results.append(
                planner.plan(
                    cost, action_space, warm_start=start, seed=seed, batch=batch, callback=callback
                )
            )
        return replace(
            results[-1],
            history=tuple(iteration for result in results for iteration in result.history),
            cost_seconds=sum(result.cost_seconds for result in results),
            planner_seconds=sum(result.planner_seconds for result in results),
        )
