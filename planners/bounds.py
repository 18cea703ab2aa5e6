"""The box that every action must stay in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ActionSpace(Protocol):
    """What a planner reads of an action space; Gymnasium's `Box` is one. Arrays or tensors."""

    @property
    def low(self) -> Any: ...

    @property
    def high(self) -> Any: ...

    @property
    def shape(self) -> Any: ...


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
    def of(space: ActionSpace, horizon: int, device: torch.device) -> Bounds:
        """Raises ValueError when the space is not one vector of real numbers with low <= high."""
        if getattr(space, "low", None) is None or getattr(space, "high", None) is None:
            raise ValueError(
                f"the action space {space} has no low and high: a planner searches a Box"
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
