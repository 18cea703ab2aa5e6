"""A plan: who makes it, what it consists of, and what the next one starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from planners.bounds import ActionSpace, Bounds
from planners.cost import Cost

SEQUENCES = "actions", "mean", "std", "elites"
"""What a PlanResult has of every step: it shifts with time."""


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


@dataclass(frozen=True)
class Iteration:
    """One iteration of a search over B problems with N candidates each."""

    index: int
    costs: Tensor  # (B, N), +inf where the cost was NaN or infinite
    mean: Tensor  # (B, H, A), after the update
    std: Tensor  # (B, H, A), after the update

    @property
    def best(self) -> Tensor:
        """(B,): the lowest cost of this iteration."""
        return self.costs.amin(dim=1)


@dataclass(frozen=True)
class PlanResult:
    """A plan for each of B problems; a planner of your own needs to fill in `actions` only."""

    actions: Tensor
    """float32 (B, H, A), inside the action space."""
    cost: Tensor | None = None
    """(B,): the cost of `actions` themselves; NaN where the planner did not evaluate them."""
    mean: Tensor | None = None
    """(B, H, A): mean of the final distribution."""
    std: Tensor | None = None
    """(B, H, A): its standard deviation."""
    elites: Tensor | None = None
    """(B, K, H, A): the best candidates of the last iteration, best first."""
    elite_costs: Tensor | None = None
    """(B, K)"""
    history: tuple[Iteration, ...] = ()
    cost_seconds: float = 0.0
    """Time spent in the cost function."""
    planner_seconds: float = 0.0
    """Time spent in everything else."""
    chunk_size: int | None = None
    """How many candidates a problem were evaluated at once in the end, None if unlimited; a warm
    start with `max_memory_gb` begins with it."""

    @property
    def non_finite(self) -> int:
        """How many candidates had a NaN or infinite cost, in all iterations and problems."""
        return sum(int(iteration.costs.isinf().sum()) for iteration in self.history)

    def shift(self, steps: int = 1) -> PlanResult:
        """The plan as seen `steps` steps later, the last action repeated: the next warm start.

        What it costs from there on is not known.
        """
        if steps < 0:
            raise ValueError(f"cannot shift a plan by {steps} steps")
        later: dict[str, Any] = {
            name: shifted(getattr(self, name), steps) for name in self._given(*SEQUENCES)
        }
        return replace(self, **later, cost=None, elite_costs=None, history=())

    def select(self, problems: Tensor) -> PlanResult:
        """The plans of some of the problems, by index or mask; the history is left behind."""
        names = self._given(*SEQUENCES, "cost", "elite_costs")
        chosen: dict[str, Any] = {name: getattr(self, name)[problems] for name in names}
        return replace(self, **chosen, history=())

    def _given(self, *names: str) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]


def starting_mean(warm_start: Any, bounds: Bounds, batch: int) -> Tensor:
    """(B, H, A): the actions of the warm start, or the middle of the box."""
    horizon, dims = bounds.low.shape
    if warm_start is None:
        return bounds.centre.expand(batch, horizon, dims)
    actions = warm_start.actions if isinstance(warm_start, PlanResult) else warm_start
    if not isinstance(actions, Tensor):
        try:
            actions = torch.from_numpy(np.array(actions, np.float32))
        except (TypeError, ValueError):
            raise TypeError(
                "the warm start must be a PlanResult, or numbers (B, h, A), not "
                f"{type(actions).__name__}"
            ) from None
    actions = actions.to(bounds.low.device, torch.float32)
    if actions.ndim != 3 or actions.shape[::2] != (batch, dims) or not actions.shape[1]:
        raise ValueError(
            f"the warm start has shape {tuple(actions.shape)}: it must be (B, h, A) "
            f"= ({batch}, h, {dims}) with at least one step"
        )
    if not bool(actions.isfinite().all()):
        raise ValueError("the warm start contains NaN or infinite actions")
    return bounds.clamp(shifted(actions, 0, horizon))


def starting_elites(warm_start: Any, bounds: Bounds) -> Tensor | None:
    """(B, K, H, A), where the warm start has some."""
    elites = warm_start.elites if isinstance(warm_start, PlanResult) else None
    return (
        None if elites is None else bounds.clamp(shifted(elites.to(bounds.low), 0, len(bounds.low)))
    )


def shifted(sequence: Tensor, steps: int, horizon: int | None = None) -> Tensor:
    """(..., h, A) -> (..., H, A): without its first `steps` actions, the last one repeated.

    `horizon` H is h unless given.
    """
    length = sequence.shape[-2]
    index = torch.arange(length if horizon is None else horizon, device=sequence.device) + steps
    return sequence[..., index.clamp(max=length - 1), :]


def checked_actions(actions: Any, batch: int, dims: int) -> Tensor:
    """What somebody else planned, tensor or array, as float32 (B, H, A) without a graph.

    Raises ValueError when it has another shape or contains NaN or infinite actions.
    """
    actions = torch.as_tensor(actions).detach()
    if actions.ndim != 3 or actions.shape[::2] != (batch, dims) or not actions.shape[1]:
        raise ValueError(
            f"the planner returned actions of shape {tuple(actions.shape)}: it must return "
            f"(B, H, A) = ({batch}, H, {dims})"
        )
    if actions.is_complex():
        raise ValueError(f"the planner returned {actions.dtype} actions: they must be real")
    if not bool(actions.isfinite().all()):
        raise ValueError("the planner returned NaN or infinite actions")
    return actions.float()
