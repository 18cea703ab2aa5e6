"""A space of choices: vectors of whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

MOST = 1 << 16
"""Choices of a component, of which each gets a probability."""


@dataclass(frozen=True)
class Choices:
    """What a planner knows of a MultiDiscrete space.

    Attributes:
        low: int64 (A,), the first choice of each component.
        counts: int64 (A,), how many each has.
    """

    low: Tensor
    counts: Tensor

    @staticmethod
    def are(space: Any) -> bool:
        """Whether the space is one of choices."""
        return getattr(space, "nvec", None) is not None

    @classmethod
    def of(cls, space: Any, device: torch.device) -> Choices:
        """Raises ValueError unless the space has one positive number of choices a component."""
        if not cls.are(space):
            raise ValueError(
                f"the action space {space} has no nvec: this planner searches a MultiDiscrete "
                "space, e.g. MultiDiscrete([n]) in place of Discrete(n)"
            )
        counts = _array(space.nvec)
        if counts.ndim != 1 or not counts.size:
            raise ValueError(
                f"the action space has nvec of shape {counts.shape}: a planner needs (A,), the "
                "choices of one environment (of a vector environment, pass its single_action_space)"
            )
        start = getattr(space, "start", None)
        low = np.zeros_like(counts, np.int64) if start is None else _array(start)
        whole = all(each.dtype.kind in "iu" for each in (low, counts)) and low.shape == counts.shape
        if not whole or counts.min() < 1 or counts.max() > MOST:
            raise ValueError(
                f"the action space has nvec {counts.tolist()} and start {low.tolist()}: a planner "
                f"needs whole numbers, one each a component, and 1 to {MOST} choices"
            )
        each = (torch.from_numpy(side.astype(np.int64)).to(device) for side in (low, counts))
        return cls(*each)

    @property
    def even(self) -> Tensor:
        """(A, most choices): the same probability of all choices of a component."""
        numbers = torch.arange(int(self.counts.max()), device=self.counts.device)
        return (numbers < self.counts[:, None]) / self.counts[:, None]

    def shares(self, plans: Tensor) -> Tensor:
        """(B, H, A, most choices): how often each is chosen by plans (B, K, H, A)."""
        return one_hot(plans - self.low, int(self.counts.max())).float().mean(1)

    def checked(self, name: str, plans: Any, batch: int, *between: str) -> Tensor:
        """Plans (B, *between, h, A) from somebody else, as int64.

        Raises ValueError for another shape, and for what are not whole numbers of the space.
        """
        if not isinstance(plans, Tensor):
            try:
                plans = torch.from_numpy(np.array(plans, np.float64))
            except (TypeError, ValueError):
                raise TypeError(f"{name} must be numbers, not {type(plans).__name__}") from None
        if plans.is_complex():
            raise ValueError(f"{name} must be whole numbers, not {plans.dtype}")
        plans = plans.detach().to(self.low.device)
        fits = plans.ndim == 3 + len(between) and plans.shape[0] == batch
        if not fits or plans.shape[-1] != len(self.low) or not plans.shape[-2]:
            wanted = ", ".join([str(batch), *between, "h", str(len(self.low))])
            raise ValueError(f"{name} has shape {tuple(plans.shape)}: it must be ({wanted})")
        whole = plans.long()
        if not bool(
            ((whole == plans) & (whole >= self.low) & (whole < self.low + self.counts)).all()
        ):
            raise ValueError(f"{name} must be whole numbers inside the action space")
        return whole


def _array(side: Any) -> NDArray[Any]:
    return np.asarray(side.cpu() if isinstance(side, Tensor) else side)
