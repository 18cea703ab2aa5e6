"""Model predictive control: plan, act, plan again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from planners.choices import Choices
from planners.cost import Cost
from planners.noise import whole_seed
from planners.plan import ActionSpace, Bounds, Planner, PlanResult, checked_actions


class MPC:
    """The receding-horizon agent, for B environments side by side.

        agent = MPC(CEM(horizon=10), replan_every=2)
        agent.reset(seed=0, batch=num_envs)
        for _ in range(steps):
            actions = agent.act(cost, envs.single_action_space)

    `planner`: any Planner. `replan_every`: environment steps between two plans. `execute`: how
    many actions `act` hands out at a time, for robots that take chunks of actions; `replan_every`
    must be a multiple of it. Every plan starts from the previous one, shifted by the steps since.
    When some of the environments have ended, `select` goes on with the others.
    """

    def __init__(self, planner: Planner, replan_every: int = 1, execute: int = 1) -> None:
        if not isinstance(planner, Planner):
            raise TypeError(f"a planner needs a method `plan`; {type(planner).__name__} has none")
        if execute < 1 or replan_every < 1 or replan_every % execute:
            raise ValueError(
                f"replan_every ({replan_every}) must be a positive multiple of execute ({execute})"
            )
        self.planner, self.replan_every, self.execute = planner, replan_every, execute
        self.reset()

    def reset(self, *, seed: int | Sequence[int] = 0, batch: int = 1) -> None:
        """Forget the last plan and begin an episode of `batch` problems.

        A sequence of B seeds makes problem b independent of the others in its batch.
        """
        self._seeds, self._batch = seed, batch
        self._plan: PlanResult | None = None
        self._plans, self._used = 0, 0

    @property
    def plan(self) -> PlanResult | None:
        """The plan being executed; None before the first step."""
        return self._plan

    def select(self, problems: Tensor) -> None:
        """Go on with some of the problems alone, by index or bool mask (B,): others have ended."""
        problems = torch.arange(self._batch)[problems]
        if isinstance(self._seeds, Sequence):
            self._seeds = [self._seeds[b] for b in problems.tolist()]
        self._batch = len(problems)
        if self._plan is not None:
            self._plan = self._plan.select(problems.to(self._plan.actions.device))

    def act(self, cost: Cost, action_space: ActionSpace, *, seed: int | None = None) -> Tensor:
        """The next actions (B, A), or (B, execute, A) when `execute` is more than one: float32, or
        int64 where the action space is one of choices.

        `cost` judges plans from the present state. It is called only on the steps that replan.
        seed: of this plan; None: the next one that follows from the seed of the episode.
        Raises ValueError when the planner returned a plan of another size, with NaN or infinite
        actions or with actions outside the action space, and TypeError when it was no plan.
        """
        if self._plan is None or self._used >= self.replan_every:
            self._replan(cost, action_space, self._next_seed() if seed is None else seed)
        assert self._plan is not None
        actions = self._plan.actions[:, self._used : self._used + self.execute]
        self._used += self.execute
        return actions[:, 0] if self.execute == 1 else actions

    def _replan(self, cost: Cost, action_space: ActionSpace, seed: int | list[int]) -> None:
        warm_start = None if self._plan is None else self._plan.shift(self._used)
        plan = self.planner.plan(
            cost, action_space, warm_start=warm_start, seed=seed, batch=self._batch
        )
        self._plan = self._checked(plan, action_space)
        self._used, self._plans = 0, self._plans + 1

    def _checked(self, plan: PlanResult, action_space: ActionSpace) -> PlanResult:
        if not isinstance(plan, PlanResult):
            raise TypeError(
                f"the planner returned {type(plan).__name__}: it must return a planners.PlanResult"
            )
        actions = self._inside(torch.as_tensor(plan.actions), action_space)
        cost = None if plan.cost is None else torch.as_tensor(plan.cost).detach()
        if cost is not None and cost.shape != (self._batch,):
            raise ValueError(
                f"the planner returned a cost of shape {tuple(cost.shape)}: it must be None or "
                f"(B,) = ({self._batch},)"
            )
        horizon = actions.shape[1]
        if horizon < self.replan_every:
            raise ValueError(
                f"the plan has {horizon} actions, too few to replan every {self.replan_every} steps"
            )
        return replace(plan, actions=actions, cost=cost)

    def _inside(self, actions: Tensor, action_space: ActionSpace) -> Tensor:
        if Choices.are(action_space):
            choices = Choices.of(action_space, actions.device)
            return choices.checked("the plan that the planner returned", actions, self._batch)
        bounds = Bounds.of(action_space, 1, actions.device)
        actions = checked_actions(actions, self._batch, bounds.low.shape[1])
        inside = bounds.clamp(actions)
        if not torch.allclose(actions, inside, rtol=1e-5):
            outside = (actions - inside).abs().amax()
            raise ValueError(
                f"the planner returned actions outside the action space, by up to {outside:.3g}: "
                "it must keep low <= action <= high"
            )
        return inside

    def _next_seed(self) -> int | list[int]:
        """A seed for the next plan, different for every plan of the episode."""

        def mixed(seed: int) -> int:
            entropy = whole_seed(seed), self._plans
            return int(np.random.SeedSequence(entropy).generate_state(1)[0])

        if isinstance(self._seeds, Sequence):
            return [mixed(seed) for seed in self._seeds]
        return mixed(self._seeds)
