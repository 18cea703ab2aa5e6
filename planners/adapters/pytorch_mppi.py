"""pytorch_mppi: its controllers as our planners."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from planners.adapters.foreign import ForeignPlanner, PlanRequest


class PytorchMPPIPlanner(ForeignPlanner):
    """MPPI, SMPPI or KMPPI as `plan`.

        PytorchMPPIPlanner(KMPPI, horizon=15, num_samples=512, lambda_=1.0, iterations=5)

    controller: the class; iterations: how often it is commanded without a shift; settings: its
    arguments but dynamics, costs, bounds and `U_init`. `noise_sigma` (A, A) is by default that of
    a std of a quarter of each dimension's range. The library plans for one problem: for each of B
    the cost is called with its candidates in all rows, which is B times the work.
    """

    def __init__(
        self, controller: Callable[..., Any], horizon: int, iterations: int = 1, **settings: Any
    ) -> None:
        self.controller, self.horizon, self.iterations = controller, horizon, iterations
        self.settings = settings

    def solve(self, request: PlanRequest) -> Tensor:
        with torch.no_grad(), request.seeded():
            return torch.stack([self._plan(request, b) for b in range(request.batch)])

    def _plan(self, request: PlanRequest, row: int) -> Tensor:
        """(H, A), the plan of one problem."""

        def whole_plan(states: Tensor, actions: Tensor) -> Tensor:  # (1, K, ...) -> (1, K)
            return request.cost(actions.expand(request.batch, -1, -1, -1).contiguous())[row, None]

        bounds = request.bounds
        settings = {"noise_sigma": (bounds.width[0] / 4).square().diag(), **self.settings}
        limits = "action_min", "action_max"  # of SMPPI, whose u_min and u_max are of the change
        if limits[0] not in inspect.signature(self.controller).parameters:
            limits = "u_min", "u_max"
        controller = self.controller(
            lambda state, action: state,
            lambda state, action: state[:, 0],
            nx=1,
            horizon=self.horizon,
            terminal_state_cost=whole_plan,
            U_init=request.start[row].clone(),
            device=request.device,
            **{limits[0]: bounds.low[0], limits[1]: bounds.high[0]},
            **settings,
        )
        for _ in range(self.iterations):
            controller.command(
                torch.zeros(1, device=request.device), shift_nominal_trajectory=False
            )
        return controller.get_action_sequence()
