"""Who decides: a planner that imagines with some dynamics, or smooth random actions.

An agent is `planners.MPC`, its cost the reward of what its dynamics show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete
from torch import Tensor

from benchmarks.harness import Stopwatch
from benchmarks.vp2_protocol.decisions import Decision, PlanningProblem
from benchmarks.vp2_protocol.dynamics import Dynamics, Imagination, Scoring, SimulatorDynamics
from benchmarks.vp2_protocol.records import Rules
from benchmarks.vp2_protocol.screening import LatentScreen
from cola_env.errors import ColaWorldError
from cola_env.inputs import to_bytes
from cola_env.scoring.ensembles import Combination
from cola_env.scoring.rewards import Reward
from planners import MPC, Planner, PlanResult, Proposed, Screened

Space = Box | MultiDiscrete
Cost = Callable[[Tensor], Tensor]
"""actions (B, N, H, A) -> costs (B, N)."""

SLACK = 1.0
"""By so much imagined frames may leave [0, 1], as a decoder's do a little."""


class MPCAgent:
    """`planners.MPC` as an agent: here of a planner that asks for no costs."""

    def __init__(self, planner: Planner, action_space: Space, rules: Rules) -> None:
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
    propose: plans (B, K, H, A) that the search begins with.
    """

    def __init__(
        self,
        planner: Planner,
        dynamics: Sequence[Dynamics],
        reward: Reward,
        action_space: Space,
        rules: Rules,
        sequences: int = 128,
        combine: Combination | None = None,
        screen: LatentScreen | None = None,
        propose: Callable[[PlanningProblem], Tensor] | None = None,
    ) -> None:
        super().__init__(planner, action_space, rules)
        self.dynamics = dynamics
        self.reward = reward
        self.sequences = sequences
        self.combine = combine or Combination()
        self.screen = screen
        self.propose = propose

    @torch.no_grad()
    def decide(self, problem: PlanningProblem) -> Decision:
        began, watch = time.perf_counter(), Stopwatch(self.dynamics[0].device)
        with watch("imagination"):
            imaginations = [member.imagine(problem) for member in self.dynamics]
        batch = len(problem.states)
        cost = self._in_groups(self._scoring(problem, imaginations, watch), batch)
        asked: Cost = cost
        if self.screen is not None:
            asked = self._screened(self.screen, cost, problem, watch)
        if self.propose is not None:
            with watch("proposals"):
                asked = Proposed(asked, self.propose(problem))
        plan = self._plan(asked, problem)
        with watch("imagination"):
            shown = plan.actions[:, None, : self.rules.executed]
            frames = imaginations[0](slice(0, batch), shown)[:, 0]
        imagined = to_bytes(frames).cpu().numpy()
        costs = plan.cost
        if costs is None or not bool(costs.isfinite().all()):  # the planner has not asked for it
            costs = cost(plan.actions[:, None])[:, 0]
        watch.spent["planner"] = time.perf_counter() - began - sum(watch.spent.values())
        return Decision(plan.actions.cpu(), imagined, costs.double().cpu().numpy(), watch.spent)

    def _scoring(
        self, problem: PlanningProblem, imaginations: Sequence[Imagination], watch: Stopwatch
    ) -> Scoring:
        """Scores (b, N) of candidates, by what they show."""

        def scores(rows: slice, actions: Tensor) -> Tensor:
            found = []
            for imagination in imaginations:
                with watch("imagination"):
                    frames = _checked(imagination(rows, actions), actions)
                with watch("rewards"):
                    goals = problem.goals[rows].to(frames.device)
                    found.append(self._score(self.reward(frames, goals)))
            return found[0] if len(found) == 1 else self.combine(torch.stack(found))

        return scores

    def _screened(
        self, screen: LatentScreen, cost: Cost, problem: PlanningProblem, watch: Stopwatch
    ) -> Screened:
        with watch("screening"):
            rewards = screen.rewards(problem)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            with watch("screening"):
                return self._score(rewards(rows, actions))

        return Screened(cost, self._in_groups(scores, len(problem.states)), screen.factor)

    def _in_groups(self, scores: Scoring, batch: int) -> Cost:
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


class StateOracle(PlanningAgent):
    """Plans in the real simulator against one of its own rewards, which knows the true state: what
    search reaches where neither model nor judge errs.

    own_reward: its name, such as RoboDesk's "dense".
    """

    def __init__(
        self,
        planner: Planner,
        simulator: SimulatorDynamics,
        reward: Reward,
        own_reward: str,
        action_space: Space,
        rules: Rules,
    ) -> None:
        super().__init__(planner, [simulator], reward, action_space, rules)
        self.simulator = simulator
        self.own_reward = own_reward

    def _scoring(
        self, problem: PlanningProblem, imaginations: Sequence[Imagination], watch: Stopwatch
    ) -> Scoring:
        rewards = self.simulator.own_rewards(problem, self.own_reward)

        def scores(rows: slice, actions: Tensor) -> Tensor:
            with watch("imagination"):
                return self._score(rewards(rows, actions))

        return scores


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
