"""Rewards of frames against a goal image: pixel error, LPIPS, success classifier, sums of these.

Source: Tian et al., "A Control-Centric Benchmark for Video Prediction" (ICLR 2023), repository
s-tian/vp2: the cost of a candidate is 0.5 * squared error to the goal - 10 * classifier logit,
summed over time, pixels and channels. Here a reward belongs to one frame, so that it serves an
environment's step as well as a planner; a candidate's reward is its sum or mean over time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.inputs import check_number
from cola_env.scoring.lpips_distance import ALEXNET, LPIPS
from cola_env.scoring.success_classifier import TaskClassifier, check_task, load_classifier
from cola_env.worlds import world_of

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
        """The reward (...) of float frames (..., 64, 64, 3) in [0, 1]."""
        error = (frames - align_goal(frames, goal)).square()
        return -(error.sum((-3, -2, -1)) if self.sums else error.mean((-3, -2, -1)))


class LPIPSReward:
    """Minus the learned perceptual distance (LPIPS) to the goal image.

    lpips: an LPIPS, or the file of torchvision's AlexNet weights.
    """

    def __init__(self, lpips: LPIPS | str | Path) -> None:
        self.lpips = lpips if isinstance(lpips, LPIPS) else LPIPS(lpips)

    @torch.no_grad()
    def __call__(self, frames: Tensor, goal: Tensor, chunk: int = 128) -> Tensor:
        """The reward (...) of float frames, `chunk` of them at a time."""
        self.lpips.to(frames.device)
        goal = align_goal(frames, goal)
        goals = torch.arange(goal.shape[:-3].numel(), device=frames.device)
        whose = goals.reshape(goal.shape[:-3]).expand(frames.shape[:-3]).flatten()
        images = frames.reshape(-1, *frames.shape[-3:])
        wanted = self.lpips.features(goal.reshape(-1, *goal.shape[-3:]))
        distances = [
            self.lpips.distance(self.lpips.features(part), [level[rows] for level in wanted])
            for part, rows in zip(images.split(chunk), whose.split(chunk), strict=True)
        ]
        return -torch.cat(distances).reshape(frames.shape[:-3])


class ClassifierReward:
    """The success classifier's logit for one task; the goal image is not looked at.

    task: one of the classifier's tasks.
    checkpoint: a TaskClassifier (SuccessClassifier, VP2Classifier, ClassifierEnsemble), its
        folder, or a world model's folder (which may hold one under classifiers/); None takes the
        shipped classifiers of the task's world.
    last: the logits that it gave last.
    """

    last: Tensor

    def __init__(self, task: str, checkpoint: TaskClassifier | str | Path | None = None) -> None:
        if checkpoint is None or isinstance(checkpoint, str | Path):
            checkpoint = load_classifier(checkpoint, world_of(task))
        check_task(checkpoint, task)
        self.classifier: TaskClassifier = checkpoint
        self.task = task

    def __call__(self, frames: Tensor, goal: Tensor) -> Tensor:
        """The logit; the goal is not looked at."""
        return self.logit(frames)

    @torch.no_grad()
    def logit(self, frames: Tensor) -> Tensor:
        """Success logit (...) of float frames (..., 64, 64, 3) in [0, 1]."""
        if self.classifier.device != frames.device:
            self.classifier.to(frames.device)
        self.last = self.classifier.logit(frames, self.task)
        return self.last

    def success_probability(self, frames: Tensor) -> Tensor:
        """Probability in [0, 1] that each float frame (..., 64, 64, 3) shows success; (...).

        Raises ColaWorldError for a value function, whose logits are not those of success.
        """
        if self.classifier.discount > 0:
            raise ColaWorldError(
                f"This is a value function (discount {self.classifier.discount}), which tells how "
                "near success is, not whether a frame shows it: give a classifier of discount 0."
            )
        return self.logit(frames).sigmoid()


Judge = TaskClassifier | ClassifierReward | str | Path | None
"""What a reward asks for success: see ClassifierReward, or one of these itself."""


def _judge(task: str, judge: Judge) -> ClassifierReward:
    return judge if isinstance(judge, ClassifierReward) else ClassifierReward(task, judge)


class VP2Reward:
    """0.5 * (-squared error) + weight * success logit: VP2's reward of one frame.

    The default averages the error over pixels and divides VP2's weight of the logit, 10, by the
    same 12,288: the ranking of candidates is VP2's and the numbers do not grow with the image.
    `sums=True` gives VP2's own numbers (12,288 times as large at 64 x 64).
    """

    def __init__(
        self,
        task: str,
        checkpoint: Judge = None,
        *,
        sums: bool = False,
        mse_weight: float = 0.5,
        classifier_weight: float = 10.0,
    ) -> None:
        self.mse = MSEReward(sums=sums)
        self.classifier = _judge(task, checkpoint)
        self.mse_weight = check_number("mse_weight", mse_weight)
        logit_weight = check_number("classifier_weight", classifier_weight)
        self.classifier_weight = logit_weight if sums else logit_weight / VP2_PIXELS

    def __call__(self, frames: Tensor, goal: Tensor) -> Tensor:
        """The weighted sum of both."""
        logit = self.classifier.logit(frames)
        return self.mse_weight * self.mse(frames, goal) + self.classifier_weight * logit


class WeightedReward:
    """A weighted sum of rewards."""

    def __init__(self, parts: Sequence[tuple[float, Reward]]) -> None:
        if not parts:
            raise ColaWorldError("A weighted reward needs at least one part, e.g. {mse: 1}.")
        self.parts = [(check_number("The weight of a reward", w), part) for w, part in parts]

    def __call__(self, frames: Tensor, goal: Tensor) -> Tensor:
        """The weighted sum of its parts."""
        terms = [weight * reward(frames, goal) for weight, reward in self.parts]
        return torch.stack(terms).sum(0)


REWARDS = ("vp2", "vp2_sums", "mse", "mse_sums", "classifier", "lpips")
JUDGED = ("vp2", "vp2_sums", "classifier")
"""The rewards that ask a success classifier."""

RewardName = str | Mapping[str, float]
"""One of REWARDS, or {name: weight} of some."""


def check_reward(reward: RewardName) -> dict[str, float]:
    """{name: weight} of a reward's parts; ColaWorldError for an unknown name or a bad weight."""
    parts = {reward: 1.0} if isinstance(reward, str) else dict(reward)
    for name, weight in parts.items():
        if name not in REWARDS:
            raise ColaWorldError(f"Unknown reward '{name}'; choose one of {', '.join(REWARDS)}.")
        check_number(f"The weight of reward '{name}'", weight)
    return parts


def is_judged(reward: Reward | RewardName) -> bool:
    """Whether a reward that is given by name asks a success classifier.

    Raises ColaWorldError for an unknown name or a bad weight.
    """
    if not isinstance(reward, str | Mapping):
        return False
    return any(name in JUDGED for name in check_reward(reward))


def make_reward(
    reward: Reward | RewardName,
    task: str,
    checkpoint: Judge = None,
    *,
    lpips: LPIPS | str | Path | None = None,
) -> Reward:
    """Build a reward by name or as {name: weight}, or pass a Reward through.

    checkpoint: of the success classifier, see ClassifierReward.
    lpips: an LPIPS or the file of torchvision's AlexNet weights, for the reward "lpips".
    Raises ColaWorldError for an unknown name, a task without a classifier or missing weights.
    """
    if not isinstance(reward, str | Mapping):
        if not callable(reward):
            raise ColaWorldError(
                f"reward must be a callable of (frames, goal) or one of {', '.join(REWARDS)}, "
                f"not {type(reward).__name__}."
            )
        return reward
    parts = [
        (weight, _named(name, task, checkpoint, lpips))
        for name, weight in check_reward(reward).items()
    ]
    return parts[0][1] if isinstance(reward, str) else WeightedReward(parts)


def _named(name: str, task: str, checkpoint: Judge, lpips: LPIPS | str | Path | None) -> Reward:
    match name:
        case "vp2" | "vp2_sums":
            return VP2Reward(task, checkpoint, sums=name == "vp2_sums")
        case "mse" | "mse_sums":
            return MSEReward(sums=name == "mse_sums")
        case "classifier":
            return _judge(task, checkpoint)
    if lpips is None:
        raise ColaWorldError(
            f"The reward 'lpips' needs torchvision's weights {ALEXNET}: give their file as lpips=, "
            "or pass an LPIPSReward(file)."
        )
    return LPIPSReward(lpips)
