"""The one place where a planner meets the user's cost: on its device, with common random numbers,
in chunks that fit into memory, and behind a cheaper cost that looks at more candidates."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from planners.noise import noise_seeds

HEADROOM = 0.8  # share of the memory budget that a chunk is sized for
GROWTH = 4  # a chunk is at most so many times the one that was measured before it

Work = Callable[[Tensor], tuple[Tensor, ...]]
STATUS, PEAK_RESET = "/proc/self/status", "/proc/self/clear_refs"
PROBE, PROBES = 64 << 20, 8  # bytes that a peak must show, so many times


class Cost(Protocol):
    """`cost(actions)`: (B, N, H, A) -> (B, N), lower is better, tensor or array. Actions are
    float32, or int64 where they are choices.

    B independent problems, N candidates each; N differs from call to call. `actions` are a copy
    that the cost may change. NaN and infinite costs mark candidates that must never win. A cost
    with a `device` attribute, or with `parameters()`, is given actions on that device, any other
    on the CPU.

    Common random numbers: a stochastic cost with a parameter `seed` is called as
    `cost(actions, seed=s)`, with the same int for all calls of one plan (or iteration: see
    `common_noise`). If it draws its noise from a generator seeded with s, once for all N
    candidates, then these differ by their actions alone, in whatever chunks they come.
    """

    def __call__(self, actions: Tensor, /) -> Any:
        """The costs (B, N) of actions (B, N, H, A)."""


@dataclass(frozen=True)
class CostWith:
    """A cost and what our planners make use of beside it; pass it wherever a cost goes. For anybody
    else's planner this is just `cost`."""

    cost: Cost

    @property
    def device(self) -> torch.device:
        """Where the cost wants its actions."""
        return device_of(self.cost)

    def __call__(self, actions: Tensor, *, seed: int = 0) -> Any:
        """The cost itself."""
        cost: Any = self.cost
        return cost(actions, seed=seed) if takes_seed(self.cost) else cost(actions)


@dataclass(frozen=True)
class Screened(CostWith):
    """A cost together with a cheap approximation of it.

    Planners that sample real numbers draw `factor` times their candidates and evaluate with `cost`
    only those that are best by `cheap`, which nothing else depends on. Both live on one device.
    """

    cheap: Cost
    factor: int = 4
    """>= 2."""

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor must be at least 2, not {self.factor}")


@dataclass(frozen=True)
class Proposed(CostWith):
    """A cost, maybe `Screened`, together with plans that look promising at the present state, such
    as those that a policy makes there.

    Planners evaluate them among the candidates of their first iteration, at most `num_samples`.
    """

    plans: Tensor
    """(B, K, h, A), inside the action space or clipped to it; repeats its last action up to the
    horizon, or is cut to it."""


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
        """Candidates a problem in one call; None: all."""
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


@dataclass(frozen=True)
class Screen:
    """The cheap cost of a `Screened` in use."""

    evaluate: Evaluator
    factor: int

    def order(self, actions: Tensor, count: int) -> Tensor:
        """(B, count): the numbers of the most promising of the candidates (B, N, H, A)."""
        return rankable(self.evaluate(actions)).topk(count, dim=1, largest=False).indices


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


def all_finite(costs: Tensor) -> bool:
    """Whether no cost is NaN or infinite."""
    return math.isfinite(costs.sum())  # False also if the sum overflows, which costs time only


def rankable(costs: Tensor) -> Tensor:
    """The costs with +inf for all that are not finite."""
    return costs.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)


class Chunks:
    """Cuts candidates (B, N, H, A) into chunks along N that fit into memory.

    Without limits a chunk is whatever comes. A memory budget is kept by measuring: the chunks
    grow from `start` candidates a problem and each is sized by the peak memory of the one before.
    A chunk that runs a GPU out of memory is cut in half and tried again, whatever the limits.

    `size`: the present limit, None for none.
    """

    def __init__(
        self,
        device: torch.device,
        size: int | None = None,
        max_memory_gb: float | None = None,
        start: int | None = None,
    ) -> None:
        self.device, self._budget = device, max_memory_gb
        self._limit = size
        self.size = size if max_memory_gb is None else start or 1
        self._warned = False

    def map(self, work: Work, actions: Tensor) -> tuple[Tensor, ...]:
        """`work` done on every chunk, its (B, n, ...) results joined along n."""
        parts: list[tuple[Tensor, ...]] = []
        start, total = 0, actions.shape[1]
        while start < total:
            size = min(self.size or total, self._limit or total, total - start)
            whole = size == total
            part = actions if whole else actions[:, start : start + size].contiguous()
            done = self._attempt(work, part)
            if done is not None:
                parts.append(done)
                start += size
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.cat(column, dim=1) for column in zip(*parts, strict=True))

    def _attempt(self, work: Work, actions: Tensor) -> tuple[Tensor, ...] | None:
        size = actions.shape[1]
        try:
            if self._budget is None:
                return work(actions)
            with MemoryMeter(self.device) as memory:
                done = work(actions)
            self._adapt(size, memory.used)
            return done
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        self._halve(size)  # here, where the error no longer holds the memory of the attempt
        return None

    def _adapt(self, size: int, used: int) -> None:
        assert self._budget is not None and self.size is not None
        if size < self.size:  # a remainder tells less than a full chunk
            return
        fits = int(HEADROOM * self._budget * 1e9 * size / used) if used > 0 else GROWTH * size
        if fits < 1 and size == 1:
            self._warn(
                f"one candidate takes {used / 1e9:.2g} GB, more than max_memory_gb="
                f"{self._budget:g} allows: evaluating one at a time"
            )
        self.size = max(1, min(fits, GROWTH * size))

    def _halve(self, size: int) -> None:
        self._limit = self.size = size // 2
        torch.cuda.empty_cache()
        self._warn(f"out of memory with {size} candidates at once: going on with {size // 2}")

    def _warn(self, message: str) -> None:
        if not self._warned:
            warnings.warn(message, stacklevel=2)
        self._warned = True


class MemoryMeter:
    """A context whose `used` is the peak of its memory above what was held on entry, in bytes.

    On a GPU it is what torch allocates there (it resets torch's peak statistics), on the CPU what
    the kernel has seen resident of the process (it resets the kernel's peak), on systems where
    `sees_peaks`.

    Raises ValueError elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda" and not sees_peaks():
            raise ValueError(
                f"max_memory_gb cannot be measured for {device} on this system: give a chunk_size"
            )
        self._device, self.used = device, 0

    def __enter__(self) -> MemoryMeter:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            Path(PEAK_RESET).write_text("5")
            self._before = _status("VmRSS")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = _status("VmHWM")
        self.used = peak - self._before


@cache
def sees_peaks() -> bool:
    """Whether this system tells the peak of a process's resident memory and lets it be reset, time
    after time: Linux does; some sandboxes that stand in for it answer with the present size, and
    an allocator that keeps what it has freed hides the next peak."""
    try:
        return all(PROBE // 2 < _peak_of(PROBE) < 2 * PROBE for _ in range(PROBES))
    except (OSError, ValueError):
        return False


def _peak_of(size: int) -> int:
    """What the kernel has seen of a block of `size` bytes that is there for a moment, in bytes."""
    Path(PEAK_RESET).write_text("5")
    before = _status("VmRSS")
    block = bytearray(b"\1") * size
    del block
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """A size in bytes of this process, by the kernel's name for it."""
    (line,) = (x for x in Path(STATUS).read_text().splitlines() if x.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
