"""Who decides: a planner that imagines with some dynamics, or smooth random actions."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.vp2_protocol.settings import Rules
from benchmarks.vp2_protocol.stopwatch import Stopwatch
from cola_env.ensembles import Combination
from cola_env.errors import ColaWorldError
from cola_env.rewards import Reward
from planners import Screened


@dataclass(frozen=True)
class Situation:
    """B episodes of one task at a moment of decision.

    frames: uint8 (B, C, 64, 64, 3), the last real frames; actions: float32 (B, C - 1, A), the
    actions between them; states: float64 (B, D), of the simulator; goals: float32
    (B, 64, 64, 3) in [0, 1]; plans: float32 (B, H, A), the previous plans moved on by the
    actions that were executed, None at the first decision.
    """

    task: str
    frames: Tensor
    actions: Tensor
    states: NDArray[np.float64]
    goals: Tensor
    plans: Tensor | None
    seed: int


@dataclass(frozen=True)
class Decision:
    """plans: float32 (B, H, A). imagined: uint8 (B, k, 64, 64, 3), what the model expects of the
    k actions that will be executed; costs: float (B,); both None for an agent without a model.
    spent: seconds by what they were spent on."""

    plans: Tensor
    imagined: NDArray[np.uint8] | None = None
    costs: NDArray[np.float64] | None = None
    spent: Mapping[str, float] = field(default_factory=dict)


class Agent(Protocol):
    def decide(self, situation: Situation) -> Decision: ...


SLACK = 1.0
"""By so much imagined frames may leave [0, 1], as a decoder's do a little."""

Imagination = Callable[[slice, Tensor], Tensor]
"""(which b of the B problems, actions (b, N, H, A)) -> float frames (b, N, H, 64, 64, 3)."""


Judgement = Callable[[slice, Tensor], Tensor]
"""The same arguments -> rewards (b, N, H), or scores (b, N)."""
Cost = Callable[[Tensor], Tensor]
"""actions (B, N, H, A) -> costs (B, N)."""


class Dynamics(Protocol):
    """Something that can tell what candidate actions would lead to."""

    device: torch.device

    def imagine(self, situation: Situation) -> Imagination: ...


class Screen(Protocol):
    """Cheap rewards that choose which candidates are imagined in pixels: one of ``factor``."""

    @property
    def factor(self) -> int: ...

    def rewards(self, situation: Situation) -> Judgement: ...


class PlanningAgent:
    """Plans against the reward of imagined frames.

    dynamics: one, or the members of an ensemble: each imagines and is scored, and the scores are
        combined. The first one's frames are shown.
    planner: anything with `plan(cost, action_space, *, warm_start, seed, batch)`.
    sequences: about how many candidates are imagined at once, those of one problem at least, which
        bounds the memory; on a CPU few are also faster than many.
    screen: None: every candidate is judged by the reward.
    """

    def __init__(
        self,
        planner: Any,
        dynamics: Sequence[Dynamics],
        reward: Reward,
        action_space: Box,
        rules: Rules,
        sequences: int = 128,
        combine: Combination | None = None,
        screen: Screen | None = None,
    ) -> None:
        self.planner = planner
        self.dynamics = dynamics
        self.reward = reward
        self.action_space = action_space
        self.rules = rules
        self.sequences = sequences
        self.combine = combine or Combination()
        self.screen = screen

    @torch.no_grad()
    def decide(self, situation: Situation) -> Decision:
        began, watch = time.perf_counter(), Stopwatch(self.dynamics[0].device)
        with watch("imagination"):
            imaginations = [member.imagine(situation) for member in self.dynamics]
        batch = len(situation.states)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            found = []
            for imagination in imaginations:
                with watch("imagination"):
                    frames = _checked(imagination(rows, actions), actions)
                with watch("rewards"):
                    goals = situation.goals[rows].to(frames.device)
                    found.append(self._score(self.reward(frames, goals)))
            return self.combine(torch.stack(found))

        cost = self._in_groups(scores, batch)
        result = self.planner.plan(
            cost if self.screen is None else self._screened(self.screen, cost, situation, watch),
            self.action_space,
            warm_start=situation.plans,
            seed=situation.seed,
            batch=batch,
        )
        plans = torch.as_tensor(result.actions).float()
        with watch("imagination"):
            shown = plans[:, None, : self.rules.replan_every]
            frames = imaginations[0](slice(0, batch), shown)[:, 0]
        imagined = (frames.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        costs = cost(plans[:, None])[:, 0] if result.cost is None else result.cost
        watch.spent["planner"] = time.perf_counter() - began - sum(watch.spent.values())
        return Decision(plans.cpu(), imagined, costs.double().cpu().numpy(), watch.spent)

    def _screened(
        self, screen: Screen, cost: Cost, situation: Situation, watch: Stopwatch
    ) -> Screened:
        with watch("screening"):
            rewards = screen.rewards(situation)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            with watch("screening"):
                return self._score(rewards(rows, actions))

        return Screened(cost, self._in_groups(scores, len(situation.states)), screen.factor)

    def _in_groups(self, scores: Judgement, batch: int) -> Cost:
        """The cost of ``scores`` (b, N), computed for so many problems at once as memory allows: by
        the most candidates that were asked for, as a planner may ask for them in parts."""
        most = 1

        def cost(actions: Tensor) -> Tensor:
            nonlocal most
            most = max(most, actions.shape[1])
            group = max(1, self.sequences // most)
            groups = [slice(start, start + group) for start in range(0, batch, group)]
            found = torch.cat([scores(rows, actions[rows]) for rows in groups])
            return -found.to(actions.device, torch.float32)

        return cost

    def _score(self, rewards: Tensor) -> Tensor:
        return candidate_score(rewards, self.rules.final_weight, self.rules.sum_over_time)


def candidate_score(rewards: Tensor, final_weight: float, sum_over_time: bool = False) -> Tensor:
    """What a plan is worth (...) by the rewards (..., H) of its frames, as `Rules` tells."""
    whole = rewards.sum(-1) if sum_over_time else rewards.mean(-1)
    return (1 - final_weight) * whole + final_weight * rewards[..., -1]


def _checked(frames: Tensor, actions: Tensor) -> Tensor:
    wanted = (*actions.shape[:3], 64, 64, 3)
    if frames.shape != wanted or not frames.is_floating_point():
        raise ColaWorldError(
            f"The model must imagine float frames of shape {wanted} in [0, 1], but it gave "
            f"{frames.dtype} of shape {tuple(frames.shape)}."
        )
    low, high = (float(end) for end in frames.aminmax())
    if not (low >= -SLACK and high <= 1 + SLACK):  # also where they are NaN
        raise ColaWorldError(
            f"The model must imagine frames in [0, 1], but its values reach from {low:.3g} to "
            f"{high:.3g}."
        )
    return frames


def check_spread(name: str, value: float | Sequence[float], action_dim: int) -> None:
    """ColaWorldError for what is no standard deviation of actions, nor one for each component."""
    spread = np.atleast_1d(value)
    if spread.shape not in ((1,), (action_dim,)) or not (spread >= 0).all():
        raise ColaWorldError(
            f"{name}={value} must be a standard deviation of 0 or more, or one for each of the "
            f"{action_dim} components of an action."
        )


def check_random(settings: Mapping[str, Any], action_dim: int) -> dict[str, Any]:
    """What model=random adds to a run's identity; ColaWorldError for what it cannot draw."""
    check_spread("random.scale", settings["scale"], action_dim)
    if not 0 <= settings["correlation"] < 1:
        raise ColaWorldError(f"random.correlation={settings['correlation']} must be in [0, 1).")
    return {"random": dict(settings)}


class RandomAgent:
    """Clipped Gaussian actions that change smoothly (an AR(1) process), the lower bound.

    scale: standard deviation, one number or one for each component of an action.
    correlation: of successive actions, in [0, 1).
    """

    def __init__(
        self,
        action_space: Box,
        steps: int,
        scale: float | Sequence[float],
        correlation: float,
    ) -> None:
        self.shape = (steps, *action_space.shape)
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        self.correlation = correlation

    def decide(self, situation: Situation) -> Decision:
        if situation.plans is not None:
            return Decision(situation.plans)
        rng = np.random.default_rng(situation.seed)
        actions = rng.standard_normal((len(situation.states), *self.shape))
        for t in range(1, self.shape[0]):
            fresh = np.sqrt(1 - self.correlation**2) * actions[:, t]
            actions[:, t] = self.correlation * actions[:, t - 1] + fresh
        return Decision((self.scale * torch.as_tensor(actions)).clamp(-1, 1).float())
