"""Who decides: a planner that imagines with some dynamics, or smooth random actions."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.vp2_protocol.dynamics import Dynamics, Judgement, LatentScreen, PlanningProblem
from benchmarks.vp2_protocol.records import Rules
from cola_env.errors import ColaWorldError
from cola_env.scoring.ensembles import Combination
from cola_env.scoring.rewards import Reward
from planners import MPC, Planner, PlanResult, Screened


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


SLACK = 1.0
"""By so much imagined frames may leave [0, 1], as a decoder's do a little."""


Cost = Callable[[Tensor], Tensor]
"""actions (B, N, H, A) -> costs (B, N)."""


class Stopwatch:
    """Seconds by name; work that is under way on a GPU counts where it is waited for."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.spent[name] += time.perf_counter() - start


class MPCAgent:
    """`planners.MPC` as an agent: here of a planner that asks for no costs."""

    def __init__(self, planner: Planner, action_space: Box, rules: Rules) -> None:
        self.action_space = action_space
        self.rules = rules
        self.mpc = MPC(planner, rules.executed, rules.executed)

    def reset(self, *, batch: int) -> None:
        self.mpc.reset(batch=batch)

    def select(self, episodes: Tensor) -> None:
        self.mpc.select(episodes)

    def decide(self, problem: PlanningProblem) -> Decision:
        return Decision(self._plan(lambda actions: actions.sum((2, 3)), problem).actions)

    def _plan(self, cost: Cost, problem: PlanningProblem) -> PlanResult:
        """The next plan; ColaWorldError for what the planner cannot do."""
        try:
            self.mpc.act(cost, self.action_space, seed=problem.seed)
        except ColaWorldError:
            raise
        except (TypeError, ValueError) as error:
            name = type(self.mpc.planner).__name__
            raise ColaWorldError(f"The planner {name} cannot plan: {error}") from error
        assert self.mpc.plan is not None
        return self.mpc.plan


class PlanningAgent(MPCAgent):
    """Plans against the reward of imagined frames.

    planner: any `planners.Planner`.
    dynamics: one, or the members of an ensemble: each imagines and is scored, and the scores are
        combined. The first one's frames are shown.
    sequences: about how many candidates are imagined at once, those of one problem at least, which
        bounds the memory; on a CPU few are also faster than many.
    screen: None: every candidate is judged by the reward.
    """

    def __init__(
        self,
        planner: Planner,
        dynamics: Sequence[Dynamics],
        reward: Reward,
        action_space: Box,
        rules: Rules,
        sequences: int = 128,
        combine: Combination | None = None,
        screen: LatentScreen | None = None,
    ) -> None:
        super().__init__(planner, action_space, rules)
        self.dynamics = dynamics
        self.reward = reward
        self.sequences = sequences
        self.combine = combine or Combination()
        self.screen = screen

    @torch.no_grad()
    def decide(self, problem: PlanningProblem) -> Decision:
        began, watch = time.perf_counter(), Stopwatch(self.dynamics[0].device)
        with watch("imagination"):
            imaginations = [member.imagine(problem) for member in self.dynamics]
        batch = len(problem.states)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            found = []
            for imagination in imaginations:
                with watch("imagination"):
                    frames = _checked(imagination(rows, actions), actions)
                with watch("rewards"):
                    goals = problem.goals[rows].to(frames.device)
                    found.append(self._score(self.reward(frames, goals)))
            return self.combine(torch.stack(found))

        cost = self._in_groups(scores, batch)
        screened = self.screen and self._screened(self.screen, cost, problem, watch)
        plan = self._plan(screened or cost, problem)
        with watch("imagination"):
            shown = plan.actions[:, None, : self.rules.executed]
            frames = imaginations[0](slice(0, batch), shown)[:, 0]
        imagined = (frames.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        costs = plan.cost
        if costs is None or not bool(costs.isfinite().all()):  # the planner has not asked for it
            costs = cost(plan.actions[:, None])[:, 0]
        watch.spent["planner"] = time.perf_counter() - began - sum(watch.spent.values())
        return Decision(plan.actions.cpu(), imagined, costs.double().cpu().numpy(), watch.spent)

    def _screened(
        self, screen: LatentScreen, cost: Cost, problem: PlanningProblem, watch: Stopwatch
    ) -> Screened:
        with watch("screening"):
            rewards = screen.rewards(problem)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            with watch("screening"):
                return self._score(rewards(rows, actions))

        return Screened(cost, self._in_groups(scores, len(problem.states)), screen.factor)

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
    low, high = (float(end) for end in frames.detach().aminmax())
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


class RandomActions:
    """Plans clipped Gaussian actions that change smoothly (an AR(1) process) and goes on with
    them: the lower bound.

    scale: standard deviation, one number or one for each component of an action.
    correlation: of successive actions, in [0, 1).
    """

    def __init__(self, steps: int, scale: float | Sequence[float], correlation: float) -> None:
        self.steps = steps
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        self.correlation = correlation

    def plan(
        self,
        cost: Cost,
        action_space: Any,
        *,
        warm_start: PlanResult | None = None,
        seed: int = 0,
        batch: int = 1,
    ) -> PlanResult:
        if warm_start is not None:
            return warm_start
        rng = np.random.default_rng(seed)
        actions = rng.standard_normal((batch, self.steps, *action_space.shape))
        for t in range(1, self.steps):
            fresh = np.sqrt(1 - self.correlation**2) * actions[:, t]
            actions[:, t] = self.correlation * actions[:, t - 1] + fresh
        return PlanResult((self.scale * torch.as_tensor(actions)).clamp(-1, 1).float())
