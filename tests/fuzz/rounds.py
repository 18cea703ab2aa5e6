"""A round of inputs at one boundary, in a process of its own, and what came of it."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import time
import warnings
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STUCK = 90
"""Seconds after which an input that does not even stop at its time limit ends its process."""


@dataclass
class Failure:
    """`seed` and `round`, the number of its inputs, name the round."""

    what: str
    place: str
    seed: int
    round: int
    input: str
    times: int = 1

    @property
    def kind(self) -> tuple[str, str]:
        return self.place, re.sub(r"[\d.]+|/\S+|'[^']*'", "_", self.what)[:60]

    def told(self, boundary: str) -> str:
        return (
            f"\n{boundary}: {self.what}\n  at {self.place or 'no place of ours'}\n"
            f"  with {self.input}\n"
            f"  again: python -m tests.fuzz only=[{boundary}] seed={self.seed} inputs={self.round}"
        )


@dataclass
class Figures:
    """Of the inputs that were tried: how many were taken and not refused, how many failed, and in
    how many distinct ways; `slowest` in seconds, `peak_mb` of memory in any process."""

    inputs: int = 0
    taken: int = 0
    failed: int = 0
    slowest: float = 0.0
    peak_mb: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add(self, failure: Failure) -> bool:
        """Whether it is one of a new kind."""
        self.failed += failure.times
        for known in self.failures:
            if known.kind == failure.kind:
                known.times += failure.times
                return False
        self.failures.append(failure)
        return True

    def join(self, other: Figures) -> list[Failure]:
        """Adds those of another round; returns its failures of new kinds."""
        self.inputs += other.inputs
        self.taken += other.taken
        self.slowest = round(max(self.slowest, other.slowest), 2)
        self.peak_mb = max(self.peak_mb, other.peak_mb)
        return [failure for failure in other.failures if self.add(failure)]


def play(name: str, seed: int, count: int, present: Path, result: Path) -> None:
    """One round; `present` holds the input that is being tried, `result` the Figures."""
    import torch

    from benchmarks.harness import peak_resident
    from cola_env.processes import end_with_parent
    from tests.fuzz.boundaries import explore
    from tests.fuzz.judge import Fault

    end_with_parent()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    trace = os.dup(2)  # what else goes there are bars and the warnings of libraries
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    figures = Figures()

    def visit(value: Any, attempt: Any) -> None:
        present.write_text(repr(value))
        faulthandler.dump_traceback_later(STUCK, exit=True, file=trace)
        begun = time.monotonic()
        figures.inputs += 1
        try:
            figures.taken += attempt()
        except Fault as fault:
            figures.add(Failure(fault.what, fault.place, seed, count, repr(value)))
        except Exception as error:
            figures.add(
                Failure(f"{type(error).__name__}: {error}"[:300], "", seed, count, repr(value))
            )
        figures.slowest = max(figures.slowest, time.monotonic() - begun)

    explore(name, seed, count, visit)
    figures.peak_mb = peak_resident() // 2**20
    result.write_text(json.dumps(asdict(figures)))


def tried(name: str, seed: int, count: int, folder: Path) -> Figures:
    """A round in a process of its own, whatever becomes of that."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz.boundaries", "tests.fuzz.rounds"])
    present, result = folder / f"{name}_{seed}.txt", folder / f"{name}_{seed}.json"
    process = context.Process(target=play, args=(name, seed, count, present, result))
    process.start()
    process.join()
    if result.exists():
        figures = Figures(**json.loads(result.read_text()))
        figures.failures = [Failure(**failure) for failure in figures.failures]
        return figures
    figures = Figures(inputs=1)
    last = present.read_text() if present.exists() else "none yet"
    figures.add(Failure(f"the process ended with {process.exitcode}", "", seed, count, last))
    return figures
