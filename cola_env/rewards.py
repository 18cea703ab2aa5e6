"""Rewards of frames against a goal image: pixel error, success classifier, and VP2's sum of both.

Source: Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023), repository
s-tian/vp2: the cost of a candidate is 0.5 * squared error to the goal - 10 * classifier logit,
summed over time, pixels and channels. Here a reward belongs to one frame, so that it serves an
environment's step as well as a planner; a candidate's reward is its sum or mean over time.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cola_env.classifier import SuccessClassifier, load_classifier
from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast

VP2_PIXELS = 64 * 64 * 3
"""Numbers in one VP2 image: what its sums have more than our means."""


class Reward(Protocol):
    """Any callable from frames and a goal to one number a frame."""

    def __call__(self, frames: Tensor, goal: Tensor) -> Tensor:
        """Reward of float frames (..., 64, 64, 3) in [0, 1] against `goal`; returns (...).

        goal: float (64, 64, 3), or (B, 64, 64, 3) where B is the first axis of frames, or
        anything of as many axes as frames that broadcasts with it.
        """
        ...


@runtime_checkable
class SuccessReward(Protocol):
    """A reward that also knows how likely a frame shows success."""

    def success_probability(self, frames: Tensor) -> Tensor:
        """Probability in [0, 1] that each float frame (..., 64, 64, 3) shows success; (...)."""
        ...


def align_goal(frames: Tensor, goal: Tensor) -> Tensor:
    """View `goal` so that it broadcasts with `frames`, its leading axes being the first of theirs.

    frames (B, N, H, 64, 64, 3) with goal (B, 64, 64, 3) gives (B, 1, 1, 64, 64, 3).
    """
    if goal.shape[-3:] != frames.shape[-3:]:
        raise ColaWorldError(
            f"The goal image has shape {tuple(goal.shape[-3:])} but the frames have "
            f"{tuple(frames.shape[-3:])}; give both the same size."
        )
    missing = frames.ndim - goal.ndim
    if missing < 0:
        raise ColaWorldError(
            f"The goal of shape {tuple(goal.shape)} has more axes than the frames of shape "
            f"{tuple(frames.shape)}; give one goal image per problem."
        )
    return goal.reshape(*goal.shape[:-3], *(1,) * missing, *goal.shape[-3:])


class MSEReward:
    """Minus the squared error to the goal image, averaged (or `sums=True`: summed) over a frame."""

    def __init__(self, *, sums: bool = False) -> None:
        self.sums = sums

    def __call__(self, frames: Tensor, goal: Tensor) -> Tensor:
        error = (frames - align_goal(frames, goal)).square()
        return -(error.sum((-3, -2, -1)) if self.sums else error.mean((-3, -2, -1)))


class ClassifierReward:
    """The success classifier's logit for one task; the goal image is not looked at.

    task: one of the classifier's tasks.
    checkpoint: a SuccessClassifier, its folder, or a world model's folder (which may hold one
        under classifiers/); None takes the shipped classifiers.
    """

    def __init__(self, task: str, checkpoint: SuccessClassifier | str | Path | None = None) -> None:
        if not isinstance(checkpoint, SuccessClassifier):
            checkpoint = load_classifier(checkpoint)
        self.classifier = checkpoint
        self.task = task
        self.head = self.classifier.head(task)

    def __call__(self, frames: Tensor, goal: Tensor) -> Tensor:
        return self.logit(frames)

    @torch.no_grad()
    def logit(self, frames: Tensor) -> Tensor:
        """Success logit (...) of float frames (..., 64, 64, 3) in [0, 1]."""
        if self.classifier.device != frames.device:
            self.classifier.to(frames.device)
        with autocast(frames.device):
            return self.classifier(frames)[..., self.head].to(frames.dtype)

    def success_probability(self, frames: Tensor) -> Tensor:
        return self.logit(frames).sigmoid()


class VP2Reward:
    """0.5 * (-squared error) + weight * success logit: VP2's reward of one frame.

    The default averages the error over pixels and divides VP2's weight of the logit, 10, by the
    same 12,288: the ranking of candidates is VP2's and the numbers do not grow with the image.
    `sums=True` gives VP2's own numbers (12,288 times as large at 64 x 64).
    """

    def __init__(
        self,
        task: str,
        checkpoint: SuccessClassifier | str | Path | None = None,
        *,
        sums: bool = False,
        mse_weight: float = 0.5,
        classifier_weight: float = 10.0,
    ) -> None:
        self.mse = MSEReward(sums=sums)
        self.classifier = ClassifierReward(task, checkpoint)
        self.mse_weight = mse_weight
        self.classifier_weight = classifier_weight if sums else classifier_weight / VP2_PIXELS

    def __call__(self, frames: Tensor, goal: Tensor) -> Tensor:
        logit = self.classifier.logit(frames)
        return self.mse_weight * self.mse(frames, goal) + self.classifier_weight * logit

    def success_probability(self, frames: Tensor) -> Tensor:
        return self.classifier.success_probability(frames)


REWARDS = ("vp2", "vp2_sums", "mse", "classifier")


def make_reward(
    reward: Reward | str,
    task: str,
    checkpoint: SuccessClassifier | str | Path | None = None,
) -> Reward:
    """Build a reward by name ("vp2", "vp2_sums", "mse", "classifier"), or pass a Reward through.

    Raises ColaWorldError for an unknown name, a task without a classifier or missing weights.
    """
    if not isinstance(reward, str):
        if not callable(reward):
            raise ColaWorldError(
                f"reward must be a callable of (frames, goal) or one of {', '.join(REWARDS)}, "
                f"not {type(reward).__name__}."
            )
        return reward
    match reward:
        case "vp2":
            return VP2Reward(task, checkpoint)
        case "vp2_sums":
            return VP2Reward(task, checkpoint, sums=True)
        case "mse":
            return MSEReward()
        case "classifier":
            return ClassifierReward(task, checkpoint)
    raise ColaWorldError(f"Unknown reward '{reward}'; choose one of {', '.join(REWARDS)}.")
