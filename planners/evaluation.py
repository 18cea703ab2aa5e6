"""The one place where a planner meets the user's cost."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from planners.chunks import Chunks
from planners.noise import noise_seeds


class Cost(Protocol):
    """`cost(actions)`: float32 (B, N, H, A) -> (B, N), lower is better, tensor or array.

    B independent problems, N candidates each; N differs from call to call. `actions` are a copy
    that the cost may change. NaN and infinite costs mark candidates that must never win. A cost
    with a `device` attribute, or with `parameters()`, is given actions on that device, any other
    on the CPU.

    Common random numbers: a stochastic cost with a parameter `seed` is called as
    `cost(actions, seed=s)`, with the same int for all calls of one plan (or iteration: see
    `common_noise`). If it draws its noise from a generator seeded with s, once for all N
    candidates, then these differ by their actions alone, in whatever chunks they come.
    """

    def __call__(self, actions: Tensor, /) -> Any: ...


class Evaluator:
    """Calls the cost, in chunks that fit, and takes its time.

    `seconds` sums up the time spent in the cost. `seeds` are those of the problems; a cost with a
    parameter `seed` gets one that is derived from them.
    """

    def __init__(self, cost: Cost, chunks: Chunks, seeds: Sequence[int]) -> None:
        self.seconds = 0.0
        self._cost: Any = cost
        self._chunks, self._device = chunks, chunks.device
        self._on_gpu = chunks.device.type == "cuda"
        self._noise = noise_seeds(seeds) if takes_seed(cost) else None
        self.renew_noise()

    def renew_noise(self) -> None:
        """From now on give the cost another seed."""
        self._seed = None if self._noise is None else next(self._noise)

    def __call__(self, actions: Tensor) -> Tensor:
        """The costs (B, N) of actions (B, N, H, A)."""
        start = time.perf_counter()
        (costs,) = self._chunks.map(lambda part: (self._call(part),), actions)
        self._stop_watch(start)
        return costs

    def with_gradients(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The costs and their gradients (B, N, H, A), zero where they are not finite.

        Raises ValueError when the cost is not differentiable.
        """
        start = time.perf_counter()
        costs, gradients = self._chunks.map(self._differentiate, actions)
        self._stop_watch(start)
        return costs, gradients.nan_to_num(nan=0, posinf=0, neginf=0)

    @property
    def chunk_size(self) -> int | None:
        return self._chunks.size

    def _stop_watch(self, start: float) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        self.seconds += time.perf_counter() - start

    def _differentiate(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            actions = actions.clone().requires_grad_()
            costs = self._call(actions)
            gradients = None
            if costs.requires_grad:
                total = costs[costs.isfinite()].sum()
                (gradients,) = torch.autograd.grad(total, actions, allow_unused=True)
        if gradients is None:
            raise ValueError(
                "the cost is not differentiable in the actions: compute it with torch operations "
                "outside torch.no_grad(), or use a planner without gradients, such as CEM"
            )
        return costs.detach(), gradients

    def _call(self, actions: Tensor) -> Tensor:
        """The cost of a copy of the actions, as a copy: what the caller does to its argument, or to
        what it returned, does not reach the planner. A graph only where gradients are enabled."""
        if self._seed is None:
            costs = self._cost(actions.clone())
        else:
            costs = self._cost(actions.clone(), seed=self._seed)
        if not torch.is_grad_enabled() and isinstance(costs, Tensor):
            costs = costs.detach()
        try:
            costs = torch.as_tensor(costs, device=self._device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"the cost returned {type(costs).__name__}: it must return a tensor or an array of "
                f"shape (B, N) = {tuple(actions.shape[:2])}"
            ) from error
        if costs.shape != actions.shape[:2]:
            raise ValueError(
                f"the cost returned shape {tuple(costs.shape)} for actions of shape "
                f"{tuple(actions.shape)}: it must return (B, N) = {tuple(actions.shape[:2])}"
            )
        if costs.is_complex() or costs.dtype == torch.bool:
            raise ValueError(f"the cost returned {costs.dtype}: it must return real numbers")
        dtype = torch.float64 if costs.dtype == torch.float64 else torch.float32
        return costs.to(dtype, copy=True)


def takes_seed(cost: Cost) -> bool:
    """Whether the cost asks for common random numbers."""
    function: Any = cost
    if isinstance(cost, torch.nn.Module):  # its __call__ passes everything on
        function = cost.forward
    elif not hasattr(cost, "__code__"):
        function = type(cost).__call__
    code = getattr(function, "__code__", None)
    if code is not None and not hasattr(function, "__wrapped__"):  # much faster than its signature
        return "seed" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        return "seed" in inspect.signature(cost).parameters
    except (TypeError, ValueError):  # a builtin
        return False


def device_of(cost: Any) -> torch.device:
    """Where the cost wants its actions."""
    device = getattr(cost, "device", None)
    if device is None and isinstance(cost, torch.nn.Module):
        device = next((parameter.device for parameter in cost.parameters()), None)
    return torch.device(device or "cpu")


@dataclass(frozen=True)
class Population:
    """The candidates of one iteration, the elites sorted by cost, best first.

    `elites` holds finite candidates only: where a problem has fewer than K, its best is repeated.
    """

    actions: Tensor  # (B, N, H, A)
    costs: Tensor  # (B, N), +inf where the cost was not finite
    elites: Tensor  # (B, K, H, A)
    elite_costs: Tensor  # (B, K)
    order: Tensor  # (B, K), the numbers of the elites among the candidates
    gradients: Tensor | None = None  # (B, N, H, A), of the costs

    @classmethod
    def ranked(cls, actions: Tensor, costs: Tensor, num_elites: int) -> Population:
        """Raises ValueError when a problem has no candidate of finite cost."""
        finite = all_finite(costs)
        costs = costs if finite else rankable(costs)
        elite_costs, index = costs.topk(num_elites, dim=1, largest=False)
        if not finite:
            hopeless = elite_costs[:, 0].isinf().nonzero().flatten().tolist()
            if hopeless:
                raise ValueError(
                    f"every one of the {costs.shape[1]} candidates of problem {hopeless} has a NaN "
                    "or infinite cost: check the cost function, or give a warm start that it allows"
                )
            index = torch.where(elite_costs.isinf(), index[:, :1], index)
            elite_costs = costs.gather(1, index)
        return cls(actions, costs, picked(actions, index), elite_costs, index)


def all_finite(costs: Tensor) -> bool:
    return math.isfinite(costs.sum())  # False also if the sum overflows, which costs time only


def rankable(costs: Tensor) -> Tensor:
    """The costs with +inf for all that are not finite."""
    return costs.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)


def picked(actions: Tensor, index: Tensor) -> Tensor:
    """(B, K, H, A): the candidates (B, N, H, A) that `index` (B, K) names."""
    if index.shape[0] == 1:
        return actions.index_select(1, index[0])
    return actions[torch.arange(index.shape[0], device=index.device).unsqueeze(1), index]
