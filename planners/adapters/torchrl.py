"""TorchRL: our planners as its planner modules, its planner modules as our planners."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import EnvBase
from torchrl.modules import MPCPlannerBase

from planners.adapters.foreign import ForeignPlanner, OnDevice, PlanRequest
from planners.plan import Planner, PlanResult


class PlannerModule(MPCPlannerBase):
    """One of our planners as an MPC module: writes the first action of a plan.

        policy = PlannerModule(env, CEM(horizon=10))
        env.rollout(100, policy)

    env: not batch-locked, e.g. a ModelBasedEnvBase; a plan is worth the sum of its rewards until
    the first `done`. seed: every call draws new numbers from it.
    """

    def __init__(
        self,
        env: EnvBase,
        planner: Planner,
        *,
        reward_key: Any = ("next", "reward"),
        action_key: Any = "action",
        seed: int = 0,
    ) -> None:
        super().__init__(env, action_key)
        self.planner, self.reward_key, self.action_key = planner, reward_key, action_key
        self._generator = torch.Generator().manual_seed(seed)
        spec = self.action_spec
        box: Any = getattr(spec, "space", None)
        if not (hasattr(box, "low") and hasattr(box, "high")):
            raise ValueError(
                f"PlannerModule plans actions with bounds, not of {type(spec).__name__}: for "
                "discrete actions use a planner of the library's own"
            )
        self._space = SimpleNamespace(
            low=box.low, high=box.high, shape=spec.shape, dtype=spec.dtype
        )

    def planning(self, td: TensorDictBase) -> Tensor:
        """The actions (*td.batch_size, A)."""
        return self.plan(td).actions[:, 0].reshape(*td.batch_size, -1)

    def plan(self, td: TensorDictBase) -> PlanResult:
        """The whole plan of every entry of `td`, in one batch."""
        states = td.reshape(-1)
        cost = OnDevice(
            lambda actions: -self._returns(states, actions), td.device or self.env.device
        )
        return self.planner.plan(cost, self._space, seed=self._generator, batch=len(states))

    def _returns(self, states: TensorDictBase, actions: Tensor) -> Tensor:
        """(B, N) of the actions (B, N, H, A)."""
        steps = iter(actions.unbind(2))
        start = states.unsqueeze(1).expand(actions.shape[:2]).to_tensordict()
        rollout = self.env.rollout(
            max_steps=actions.shape[2],
            policy=lambda td: td.set(self.action_key, next(steps)),
            auto_reset=False,
            tensordict=start,
            break_when_any_done=False,
        )
        rewards, done = rollout[self.reward_key], rollout["next", "done"].int()
        ended_before = done.cumsum(-2) - done
        return (rewards * (ended_before == 0)).sum(dim=(-1, -2))


class CostEnv(EnvBase):
    """An environment of one step whose action is a whole plan, flattened: its reward is -cost."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls, _inplace_update=False, _batch_locked=False)

    def __init__(self, request: PlanRequest) -> None:
        super().__init__(device=request.device, batch_size=())
        self._request = request
        low, high = request.bounds.low.flatten(), request.bounds.high.flatten()
        self.observation_spec = Composite(problem=Unbounded((1,)))
        self.action_spec = Bounded(low, high, shape=low.shape, dtype=torch.float32)
        self.reward_spec = Unbounded((1,))

    def _reset(self, tensordict: TensorDictBase | None, **kwargs: Any) -> TensorDictBase:
        batch = () if tensordict is None else tensordict.batch_size
        return TensorDict({"problem": torch.zeros(*batch, 1)}, batch)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        plans = tensordict["action"].unflatten(-1, self._request.bounds.low.shape)
        reward = -self._request.cost(plans).unsqueeze(-1)
        done = torch.ones_like(reward, dtype=torch.bool)
        return TensorDict(
            {"problem": tensordict["problem"], "reward": reward, "done": done, "terminated": done},
            tensordict.batch_size,
        )

    def _set_seed(self, seed: int | None) -> None:
        pass


class TorchRLPlanner(ForeignPlanner):
    """A planner module of TorchRL as `plan`.

        TorchRLPlanner(CEMPlanner, horizon=10, optim_steps=10, num_candidates=500, top_k=25)

    planner: the class; settings: its arguments but the environment and the horizon. It sees a
    problem of one step, a whole plan being the action, which is the same to a planner that draws
    every number independently, and makes it return all of the plan. It has no warm start.
    """

    def __init__(self, planner: Callable[..., Any], horizon: int, **settings: Any) -> None:
        self.planner, self.horizon, self.settings = planner, horizon, settings

    def solve(self, request: PlanRequest) -> Tensor:
        planner = self.planner(CostEnv(request), planning_horizon=1, **self.settings)
        problems = torch.zeros(request.batch, 1)
        start = TensorDict({"problem": problems}, [request.batch], device=request.device)
        with torch.no_grad(), request.seeded():
            return planner.planning(start).view(request.start.shape)
