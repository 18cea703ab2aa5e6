"""Where the time of a decision goes."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch


class Stopwatch:
    """Seconds by name; work that is under way on a GPU counts where it is waited for."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.spent[name] += time.perf_counter() - start


def shares(spent: Iterable[Mapping[str, float]]) -> str:
    """ "imagination 80 %, rewards 15 %, ..." of all the times together, the longest first."""
    total: defaultdict[str, float] = defaultdict(float)
    for times in spent:
        for name, seconds in times.items():
            total[name] += seconds
    whole = sum(total.values())
    ranked = sorted(total.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in ranked if whole)
