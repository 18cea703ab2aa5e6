"""How many candidates are evaluated at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from planners.memory import MemoryMeter

HEADROOM = 0.8  # share of the memory budget that a chunk is sized for
GROWTH = 4  # a chunk is at most so many times the one that was measured before it

Work = Callable[[Tensor], tuple[Tensor, ...]]


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
