"""stable-worldmodel: our planners as its solvers, its solvers as our planners.

Both layouts of the library will do (0.1.1 on PyPI and its later main branch): what differs between
them, module paths and the name of the first argument of a solver, is not used here.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planners.adapters.foreign import ForeignPlanner, OnDevice, PlanRequest
from planners.plan import Bounds, Planner


class PlannerSolver:
    """One of our planners as a `Solver`.

        solver = PlannerSolver(ICEM(horizon=5), model)
        policy = WorldModelPolicy(solver, PlanConfig(horizon=5, receding_horizon=5))

    model: with `get_cost(info (B, N, ...), candidates (B, N, H, A * action_block)) -> (B, N)`. One
        with an actor, `get_action(info (B, ...), horizon=h, prefix_actions=(B, t, A *
        action_block)) -> (B, h, A * action_block)`, completes warm starts with it, as it does for
        the library's own solvers; without one the last action is repeated.
    seed: every call of `solve` draws new numbers from it.
    """

    def __init__(
        self,
        planner: Planner,
        model: Any,
        *,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        self.planner, self.model = planner, model
        self.device = torch.device(device)
        self._generator = torch.Generator().manual_seed(seed)
        parameters = model.parameters() if hasattr(model, "parameters") else iter(())
        self.dtype = next((parameter.dtype for parameter in parameters), torch.float32)

    def configure(self, *, action_space: Any, n_envs: int, config: Any) -> None:
        """action_space: a Box of floats of shape (n_envs, ...), of which the first row counts.

        Raises ValueError for another space, and when the horizons of the planner and of `config`
        differ.
        """
        horizon = getattr(self.planner, "horizon", config.horizon)
        if horizon != config.horizon:
            raise ValueError(
                f"the planner's horizon is {horizon}, that of the PlanConfig {config.horizon}: "
                "make them equal"
            )
        if not hasattr(action_space, "low"):
            raise ValueError(
                f"PlannerSolver plans in a Box, not in {action_space}: for discrete actions use "
                "the library's CategoricalCEMSolver"
            )
        low, high = np.asarray(action_space.low), np.asarray(action_space.high)
        if low.ndim < 2 or len(low) != n_envs:
            raise ValueError(
                f"the action space has shape {low.shape}: it must be (n_envs, ...) with n_envs="
                f"{n_envs}, as the action_space of a vector environment is"
            )
        low, high = (np.tile(side[0].ravel(), config.action_block) for side in (low, high))
        self.n_envs, self.horizon = n_envs, config.horizon
        self._space = SimpleNamespace(low=low, high=high, shape=low.shape, dtype=low.dtype)
        Bounds.of(self._space, self.horizon, self.device)

    @property
    def action_dim(self) -> int:
        """A * action_block."""
        return len(self._space.low)

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.solve(*args, **kwargs)

    def solve(self, info_dict: dict[str, Any], init_action: Tensor | None = None) -> dict[str, Any]:
        """{"actions": float32 (B, H, A * action_block) on the CPU, "costs": B floats, "plan": the
        PlanResult}. init_action (B, h, A * action_block): the warm start."""
        batch = len(next(iter(info_dict.values())))
        infos = {key: self._on_device(value) for key, value in info_dict.items()}

        def cost(actions: Tensor) -> Tensor:
            expanded = {key: _repeated(value, actions.shape[1]) for key, value in infos.items()}
            return self.model.get_cost(expanded, actions.to(self.dtype))

        plan = self.planner.plan(
            OnDevice(cost, self.device),
            self._space,
            warm_start=self._whole(init_action, infos),
            seed=self._generator,
            batch=batch,
        )
        costs = [float("nan")] * batch if plan.cost is None else plan.cost.tolist()
        return {"actions": plan.actions.detach().cpu(), "costs": costs, "plan": plan}

    @torch.no_grad()
    def _whole(self, start: Tensor | None, infos: dict[str, Any]) -> Tensor | None:
        """The warm start, with what it lacks of the horizon from the model's actor."""
        missing = self.horizon - (0 if start is None else start.shape[1])
        if missing <= 0 or not hasattr(self.model, "get_action"):
            return start
        start = self._on_device(start)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # actors sample from the global generator
            torch.manual_seed(int(torch.randint(2**62, (), generator=self._generator)))
            tail = self.model.get_action(infos, horizon=missing, prefix_actions=start)
        tail = torch.as_tensor(tail, device=self.device)
        if tail.ndim == 2:  # one action, for which some actors give no axis of time
            tail = tail.unsqueeze(1)
        return tail if start is None else torch.cat([start, tail.to(start)], dim=1)

    def _on_device(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.dtype if value.is_floating_point() else None)


def _repeated(value: Any, count: int) -> Any:
    """(B, ...) -> (B, count, ...), whatever is not an array as it is."""
    if isinstance(value, Tensor):
        return value.unsqueeze(1).expand(-1, count, *value.shape[1:])
    if isinstance(value, np.ndarray):
        return np.repeat(value[:, None], count, axis=1)
    return value


class SolverPlanner(ForeignPlanner):
    """A solver of stable-worldmodel as `plan`.

        SolverPlanner(CEMSolver, horizon=10, num_samples=300, n_steps=30, topk=30)

    solver: the class of a solver for continuous actions; settings: its arguments but the model,
    `batch_size`, `device` and `seed`. What it prints is suppressed. Needs gymnasium.
    """

    def __init__(self, solver: Callable[..., Any], horizon: int, **settings: Any) -> None:
        self.solver, self.horizon, self.settings = solver, horizon, settings

    def solve(self, request: PlanRequest) -> Tensor:
        from gymnasium.spaces import Box

        batch = request.batch
        model = SimpleNamespace(get_cost=lambda info, actions: request.cost(actions))
        solver = self.solver(
            model, batch_size=batch, device=str(request.device), seed=request.seed, **self.settings
        )
        low, high = (
            side[0].cpu().numpy()[None].repeat(batch, 0)
            for side in (request.bounds.low, request.bounds.high)
        )
        config = SimpleNamespace(
            horizon=self.horizon, receding_horizon=self.horizon, action_block=1
        )
        with contextlib.redirect_stdout(io.StringIO()):
            solver.configure(action_space=Box(low, high), n_envs=batch, config=config)
            info = {"problem": torch.arange(batch).unsqueeze(1)}
            solved = solver.solve(info, init_action=request.start.clone())
        return solved["actions"]
