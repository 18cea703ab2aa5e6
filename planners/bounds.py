"""The box that every action must stay in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
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
    """`low` and `high`, float32 (H, A): the action space, repeated over the horizon."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, space: ActionSpace, horizon: int, device: torch.device) -> Bounds:
        """Raises ValueError when the space is not one vector of actions with low <= high."""
        shape = tuple(space.shape)
        if len(shape) != 1 or shape[0] == 0:
            raise ValueError(
                f"the action space has shape {shape}: a planner needs (A,), the actions of one "
                "environment (of a vector environment, pass its single_action_space)"
            )
        low, high = (
            torch.as_tensor(x, dtype=torch.float32, device=device).expand(horizon, *shape)
            for x in (space.low, space.high)
        )
        if not bool((low <= high).all()):
            raise ValueError("the action space needs low <= high in every dimension, without NaN")
        return cls(low.contiguous(), high.contiguous())

    @property
    def finite(self) -> bool:
        return bool((self.low.isfinite() & self.high.isfinite()).all())

    def centre(self) -> Tensor:
        """(H, A): the middle of the box; where a side is infinite, the point nearest to zero."""
        middle = self.low + (self.high - self.low) / 2
        return torch.where(middle.isfinite(), middle, self.clamp(torch.zeros_like(self.low)))

    def clamp(self, actions: Tensor) -> Tensor:
        """A new tensor (..., H, A) inside the box."""
        return actions.clamp(self.low, self.high)
