"""The one place where a planner meets the user's cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Cost(Protocol):
    """`cost(actions)`: float32 (B, N, H, A) -> (B, N), lower is better, tensor or array.

    B independent problems, N candidates each. It must not change `actions`. NaN and infinite
    costs mark candidates that must never win. A cost with a `device` attribute is given actions
    on that device, any other on the CPU.
    """

    def __call__(self, actions: Tensor, /) -> Any: ...


class Evaluator:
    """Calls the cost, at most `chunk_size` candidates a problem at a time, and takes its time.

    What comes back is (B, N), finite or +inf. `seconds` sums up the time spent in the cost.
    """

    def __init__(self, cost: Cost, chunk_size: int | None) -> None:
        self.device = torch.device(getattr(cost, "device", None) or "cpu")
        self.seconds = 0.0
        self._cost, self._chunk_size = cost, chunk_size

    @torch.no_grad()
    def __call__(self, actions: Tensor) -> Tensor:
        start = time.perf_counter()
        if self._chunk_size is None or self._chunk_size >= actions.shape[1]:
            costs = self._call(actions)
        else:
            chunks = actions.split(self._chunk_size, dim=1)
            costs = torch.cat([self._call(chunk.contiguous()) for chunk in chunks], dim=1)
        costs = costs.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
        if costs.is_cuda:
            torch.cuda.synchronize(costs.device)
        self.seconds += time.perf_counter() - start
        return costs

    def _call(self, actions: Tensor) -> Tensor:
        costs = torch.as_tensor(self._cost(actions), device=self.device)
        if costs.shape != actions.shape[:2]:
            raise ValueError(
                f"the cost returned shape {tuple(costs.shape)} for actions of shape "
                f"{tuple(actions.shape)}: it must return (B, N) = {tuple(actions.shape[:2])}"
            )
        return costs if costs.dtype == torch.float64 else costs.float()


@dataclass(frozen=True)
class Population:
    """The candidates of one iteration, the elites sorted by cost, best first.

    `elites` holds finite candidates only: where a problem has fewer than K, its best is repeated.
    """

    actions: Tensor  # (B, N, H, A)
    costs: Tensor  # (B, N), +inf where the cost was not finite
    elites: Tensor  # (B, K, H, A)
    elite_costs: Tensor  # (B, K)

    @classmethod
    def ranked(cls, actions: Tensor, costs: Tensor, num_elites: int) -> Population:
        """Raises ValueError when a problem has no candidate of finite cost."""
        elite_costs, index = costs.topk(num_elites, dim=1, largest=False)
        if bool(elite_costs[:, -1].isinf().any()):
            hopeless = elite_costs[:, 0].isinf().nonzero().flatten().tolist()
            if hopeless:
                raise ValueError(
                    f"every one of the {costs.shape[1]} candidates of problem {hopeless} has a NaN "
                    "or infinite cost: check the cost function, or give a warm start that it allows"
                )
            index = torch.where(elite_costs.isinf(), index[:, :1], index)
            elite_costs = costs.gather(1, index)
        rows = torch.arange(len(costs), device=costs.device).unsqueeze(1)
        return cls(actions, costs, actions[rows, index], elite_costs)
