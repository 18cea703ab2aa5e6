"""What counts as a planner."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from planners.bounds import ActionSpace
from planners.evaluation import Cost
from planners.result import PlanResult


@runtime_checkable
class Planner(Protocol):
    """Any object with this `plan` works wherever ours do.

    `warm_start` is None or a PlanResult of its own, shifted to begin now and of the problems that
    go on. `seed` is an int, or a sequence of B ints where the caller of `MPC.reset` gave one.
    The plan must keep the action space: `MPC` refuses one that does not.
    """

    def plan(
        self,
        cost: Cost,
        action_space: ActionSpace,
        *,
        warm_start: Any = None,
        seed: Any = 0,
        batch: int = 1,
    ) -> PlanResult: ...
