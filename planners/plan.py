"""A plan: who makes it, the box that it stays in, what it consists of, and what the next one starts
from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planners.cost import Cost

SEQUENCES = "actions", "mean", "std", "elites"
"""What a PlanResult has of every step: it shifts with time."""


class ActionSpace(Protocol):
    """What a planner reads of an action space, arrays or tensors: `low` and `high`, the bounds of
    each component, such as Gymnasium's `Box` has, or of a space of choices `nvec`, such as
    `MultiDiscrete` has."""

    @property
    def shape(self) -> Any:
        """(A,)."""


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
    ) -> PlanResult:
        """A plan for each of `batch` problems, see `PopulationPlanner.plan`."""


@dataclass(frozen=True)
class Iteration:
    """One iteration of a search over B problems with N candidates each."""

    index: int
    costs: Tensor  # (B, N), +inf where the cost was NaN or infinite
    mean: Tensor | None = None  # (B, H, A), after the update, of a search by a Gaussian
    std: Tensor | None = None  # (B, H, A), after the update

    @property
    def best(self) -> Tensor:
        """(B,): the lowest cost of this iteration."""
        return self.costs.amin(dim=1)


@dataclass(frozen=True)
class PlanResult:
    """A plan for each of B problems; a planner of your own needs to fill in `actions` only."""

    actions: Tensor
    """float32 (B, H, A), inside the action space; int64 where that is of choices."""
    cost: Tensor | None = None
    """(B,): the cost of `actions` themselves; NaN where the planner did not evaluate them."""
    mean: Tensor | None = None
    """(B, H, A): mean of the final distribution."""
    std: Tensor | None = None
    """(B, H, A): its standard deviation."""
    elites: Tensor | None = None
    """(B, K, H, A): the best candidates of the last iteration, best first (of all iterations where
    candidates move by gradients or are choices)."""
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
    if warm_start is None:
        return bounds.centre.expand(batch, *bounds.low.shape)
    actions = warm_start.actions if isinstance(warm_start, PlanResult) else warm_start
    return _whole_plans("the warm start", actions, "a PlanResult, or ", bounds, batch)


def proposed_plans(plans: Any, bounds: Bounds, batch: int) -> Tensor:
    """(B, K, H, A): what a cost proposes, inside the box; None: nothing, K is 0."""
    if plans is None:
        return bounds.centre.new_empty(batch, 0, *bounds.low.shape)
    return _whole_plans("what the cost proposes", plans, "", bounds, batch, "K")


def _whole_plans(
    name: str, plans: Any, other: str, bounds: Bounds, batch: int, *between: str
) -> Tensor:
    """Plans (B, *between, h, A) from somebody else, as long as the horizon and inside the box.

    Raises TypeError for what are no numbers, ValueError for another shape, NaN and infinity.
    """
    horizon, dims = bounds.low.shape
    letters = ", ".join(["B", *between, "h", "A"])
    if not isinstance(plans, Tensor):
        try:
            plans = torch.from_numpy(np.array(plans, np.float32))
        except (TypeError, ValueError):
            raise TypeError(
                f"{name} must be {other}numbers ({letters}), not {type(plans).__name__}"
            ) from None
    plans = plans.to(bounds.low.device, torch.float32)
    fits = plans.ndim == 3 + len(between) and plans.shape[0] == batch and plans.shape[-1] == dims
    if not fits or not plans.shape[-2]:
        wanted = ", ".join([str(batch), *between, "h", str(dims)])
        raise ValueError(
            f"{name} has shape {tuple(plans.shape)}: it must be ({letters}) = ({wanted}) with at "
            "least one step"
        )
    if not bool(plans.isfinite().all()):
        raise ValueError(f"{name} contains NaN or infinite actions")
    return bounds.clamp(shifted(plans, 0, horizon))


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


@dataclass(frozen=True)
class Bounds:
    """The action space repeated over the horizon, float32 (H, A).

    `centre` is the middle of the box; where a side is infinite, the point nearest to zero.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    width: Tensor
    finite: bool
    uniform: tuple[float, float] | None  # low and high where all dimensions share them

    @staticmethod
    def of(space: Any, horizon: int, device: torch.device) -> Bounds:
        """Raises ValueError when the space is not one vector of real numbers with low <= high."""
        if getattr(space, "low", None) is None or getattr(space, "high", None) is None:
            raise ValueError(
                f"the action space {space} has no low and high: a planner searches a Box, "
                "CategoricalCEM a MultiDiscrete space"
            )
        shape = tuple(space.shape)
        if len(shape) != 1 or shape[0] == 0:
            raise ValueError(
                f"the action space has shape {shape}: a planner needs (A,), the actions of one "
                "environment (of a vector environment, pass its single_action_space)"
            )
        dtype = getattr(space, "dtype", None)
        if dtype is not None and "float" not in str(dtype):
            raise ValueError(
                f"the action space is of {dtype}: a planner searches real numbers, so give it a "
                "Box of floats and round them in the cost and before the step"
            )
        low, high = (_array(side, shape) for side in (space.low, space.high))
        return _bounds(*_inside(low, high), horizon, device)

    def clamp(self, actions: Tensor) -> Tensor:
        """A new tensor (..., H, A) inside the box."""
        return actions.clamp(self.low, self.high)

    def clamp_(self, actions: Tensor) -> Tensor:
        """The same in place."""
        if self.uniform is not None:  # three times as fast
            return actions.clamp_(*self.uniform)
        return actions.clamp_(self.low, self.high)


def _array(side: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.asarray(side.cpu() if isinstance(side, Tensor) else side)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"the bounds of the action space are {array.dtype}, not real numbers")
    try:
        return np.broadcast_to(array.astype(np.float64), shape)
    except ValueError as error:
        raise ValueError(
            f"the bounds of the action space have shape {array.shape}, the actions {shape}"
        ) from error


def _inside(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[bytes, bytes]:
    """The bounds in float32, rounded towards the inside, so that no plan is out of the space."""
    with np.errstate(over="ignore"):  # beyond float32 there is no bound
        near_low, near_high = low.astype(np.float32), high.astype(np.float32)
    up = np.nextafter(near_low, np.float32(np.inf))
    down = np.nextafter(near_high, np.float32(-np.inf))
    inner_low = np.where((near_low < low) & np.isfinite(near_low), up, near_low)
    inner_high = np.where((near_high > high) & np.isfinite(near_high), down, near_high)
    empty = inner_low > inner_high  # a fixed action that float32 does not have
    return (
        np.where(empty, near_low, inner_low).tobytes(),
        np.where(empty, near_high, inner_high).tobytes(),
    )


@lru_cache(maxsize=64)
def _bounds(low_bytes: bytes, high_bytes: bytes, horizon: int, device: torch.device) -> Bounds:
    low, high = (
        torch.from_numpy(np.frombuffer(side, np.float32).copy()).to(device).repeat(horizon, 1)
        for side in (low_bytes, high_bytes)
    )
    if not bool(((low <= high) & (low < torch.inf) & (high > -torch.inf)).all()):
        raise ValueError(
            "the action space needs low <= high in every dimension, without NaN, and some finite "
            "number between them"
        )
    middle = low + (high - low) / 2
    nearest_to_zero = torch.zeros_like(low).clamp(low, high)
    centre = torch.where(middle.isfinite(), middle, nearest_to_zero)
    alike = bool((low == low[0, 0]).all() and (high == high[0, 0]).all())
    return Bounds(
        low,
        high,
        centre,
        high - low,
        finite=bool((high - low).isfinite().all()),
        uniform=(float(low[0, 0]), float(high[0, 0])) if alike else None,
    )
