"""A moment of decision: what is shown of the episodes, what is decided, and who decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class PlanningProblem:
    """B episodes of one task at a moment of decision.

    frames: uint8 (B, C, 64, 64, 3), the last real frames; actions: float32 (B, C - 1, A), the
    actions between them; states: float64 (B, D), of the simulator; goals: float32
    (B, 64, 64, 3) in [0, 1].
    """

    task: str
    frames: Tensor
    actions: Tensor
    states: NDArray[np.float64]
    goals: Tensor
    seed: int


@dataclass(frozen=True)
class Decision:
    """actions: float32 (B, k, A), the k next ones at least. imagined: uint8 (B, k, 64, 64, 3), what
    the model expects of them; costs: float (B,), of the whole plans; both None for an agent without
    a model. spent: seconds by what they were spent on."""

    actions: Tensor
    imagined: NDArray[np.uint8] | None = None
    costs: NDArray[np.float64] | None = None
    spent: Mapping[str, float] = field(default_factory=dict)


class Agent(Protocol):
    """What acts for the episodes of one batch."""

    def reset(self, *, batch: int) -> None:
        """B episodes begin."""

    def decide(self, problem: PlanningProblem) -> Decision: ...

    def select(self, episodes: Tensor) -> None:
        """Go on with those of a bool mask (B,) alone: the others have ended."""
