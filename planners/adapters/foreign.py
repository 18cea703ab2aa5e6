"""What all adapters of other people's planners do around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from planners.cost import Chunks, Cost, Evaluator, device_of
from planners.noise import problem_seeds
from planners.plan import Bounds, PlanResult, checked_actions, starting_mean


class OnDevice:
    """A cost that wants its actions on `device`."""

    def __init__(self, cost: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._cost, self.device = cost, device

    def __call__(self, actions: Tensor) -> Tensor:
        return self._cost(actions)


class PlanRequest:
    """The arguments of one `plan`, in the forms that other libraries ask for.

    `cost(actions (B, N, H, A)) -> (B, N)` tensor; `start` (B, H, A) from the warm start; `seed` one
    int for all; `bounds`.
    """

    def __init__(
        self,
        cost: Cost,
        action_space: Any,
        horizon: int,
        warm_start: Any,
        seed: int | Sequence[int] | torch.Generator,
        batch: int,
    ) -> None:
        self.device, self.batch = device_of(cost), batch
        seeds = problem_seeds(seed, batch)
        self.seed = seeds[0] % 2**32
        self.bounds = Bounds.of(action_space, horizon, self.device)
        self.start = starting_mean(warm_start, self.bounds, batch).contiguous()
        self.cost = Evaluator(cost, Chunks(self.device), seeds)

    def result(self, actions: Tensor) -> PlanResult:
        """The plan (B, H, A) that came back, put inside the bounds, with its cost.

        Raises ValueError for a plan of another size or with NaN or infinite actions.
        """
        actions = checked_actions(actions, self.batch, self.start.shape[2])
        actions = self.bounds.clamp(actions.to(self.start))
        with torch.no_grad():
            cost = self.cost(actions.unsqueeze(1)).squeeze(1)
        return PlanResult(actions, cost, mean=actions, cost_seconds=self.cost.seconds)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """For libraries that draw from torch's global generator, which is left as it was."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            yield


class ForeignPlanner(ABC):
    """Somebody else's planner as `plan`."""

    horizon: int

    def plan(
        self,
        cost: Cost,
        action_space: Any,
        *,
        warm_start: Any = None,
        seed: int | Sequence[int] | torch.Generator = 0,
        batch: int = 1,
    ) -> PlanResult:
        """As `Planner.plan`: all problems share one generator."""
        request = PlanRequest(cost, action_space, self.horizon, warm_start, seed, batch)
        return request.result(self.solve(request))

    @abstractmethod
    def solve(self, request: PlanRequest) -> Tensor:
        """The actions (B, H, A)."""
