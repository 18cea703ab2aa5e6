"""How much memory a piece of work takes."""

from __future__ import annotations

import os
import threading
from types import TracebackType

import torch

STATM = "/proc/self/statm"


class MemoryMeter:
    """A context whose `used` is the peak of its memory above what was held on entry, in bytes.

    On a GPU it is what torch allocates there, exactly (it resets torch's peak statistics); on the
    CPU the resident memory of the process, looked at every millisecond. Linux only.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda" and not os.path.exists(STATM):
            raise ValueError(
                f"max_memory_gb cannot be measured for {device} on this system: give a chunk_size"
            )
        self._device, self.used = device, 0

    def __enter__(self) -> MemoryMeter:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            self._before = self._peak = _resident()
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
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
            self._ended.set()
            self._thread.join()
            peak = self._peak
        self.used = peak - self._before

    def _look(self) -> None:
        while not self._ended.wait(0.001):
            self._peak = max(self._peak, _resident())


def _resident() -> int:
    with open(STATM, "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
