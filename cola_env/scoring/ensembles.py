"""Several judgements of the same frames or plans made one: their mean, the worst, or cautious.

Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023) plan with ensembles so:
where the members disagree, the model does not know, and a planner had better stay away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError, check_setting
from cola_env.scoring.success_classifier import TaskClassifier

COMBINATIONS = ("mean", "min", "cautious")


@dataclass(frozen=True)
class Combination:
    """Scores (M, ...) of M members, higher being better, -> (...).

    how: "mean"; "min", the worst; or "cautious", the mean minus `penalty` standard deviations (of
        the members, divided by M).
    Raises ColaWorldError for another name or a negative penalty.
    """

    how: str = "mean"
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.how not in COMBINATIONS:
            raise ColaWorldError(
                f"Unknown combination '{self.how}'; choose one of {', '.join(COMBINATIONS)}."
            )
        check_setting("penalty", self.penalty, 0 <= self.penalty < math.inf, "at least 0")

    def __call__(self, scores: Tensor) -> Tensor:
        """The scores (M, ...) of M members as one (...)."""
        if self.how == "min":
            return scores.amin(0)
        mean = scores.mean(0)
        return mean if self.how == "mean" else mean - self.penalty * scores.std(0, correction=0)


class ClassifierEnsemble:
    """Several classifiers as one: their logits of a frame, combined.

    Raises ColaWorldError for none, members of different rendering profiles or discounts, or no
    common task.
    """

    def __init__(self, members: Sequence[TaskClassifier], combine: Combination) -> None:
        if len({member.rendering for member in members}) != 1:
            raise ColaWorldError("An ensemble needs classifiers, all of one rendering profile.")
        discounts = {member.discount for member in members}
        if len(discounts) != 1:
            raise ColaWorldError(
                "The members of an ensemble mean different things: their discounts are "
                f"{', '.join(map(str, sorted(discounts)))} (0: success; above: a value function)."
            )
        self.members = list(members)
        self.combine = combine
        first, *others = (member.tasks for member in members)
        self.tasks = tuple(task for task in first if all(task in tasks for tasks in others))
        if not self.tasks:
            raise ColaWorldError("The classifiers of this ensemble have no task in common.")

    @property
    def rendering(self) -> str:
        """The rendering profile that the members know."""
        return self.members[0].rendering

    @property
    def discount(self) -> float:
        """That of the first member."""
        return self.members[0].discount

    @property
    def threshold(self) -> float:
        """The highest of the members'."""
        return max(member.threshold for member in self.members)

    @property
    def device(self) -> torch.device:
        """Where they compute."""
        return self.members[0].device

    def to(self, device: torch.device, /) -> Self:
        """Move all members."""
        self.members = [member.to(device) for member in self.members]
        return self

    def logit(self, frames: Tensor, task: str) -> Tensor:
        """The combined logit (...) of float frames (..., 64, 64, 3)."""
        return self.combine(torch.stack([member.logit(frames, task) for member in self.members]))
