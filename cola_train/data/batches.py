"""The batches of a training phase, drawn ahead by reader processes where that pays.

What is drawn for a micro-batch of a step depends on the seed, the phase, the step and its number
alone: a run that is resumed, or spread over other processes or readers, sees what it would have
seen.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from cola_env.errors import ColaWorldError
from cola_train.data.clips import ClipBatch, TrainingData

Draw = Callable[[TrainingData, torch.Generator], ClipBatch]
T = TypeVar("T")
AHEAD = 4
"""Batches that each process reads ahead."""


def step_generator(seed: int, phase: str, step: int, use: str, micro: int = 0) -> torch.Generator:
    """The random numbers of one step, other ones for each ``use`` of them and micro-batch."""
    name = f"{seed} {phase} {step} {use}" + (f" {micro}" if micro else "")
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


@dataclass(frozen=True)
class _Steps(Dataset[object]):
    """Item ``(step, micro)`` is that micro-batch, or the error instead, and the damaged files met
    on the way."""

    data: TrainingData
    draw: Draw
    seed: int
    phase: str

    def __getitem__(
        self, item: tuple[int, int]
    ) -> tuple[ClipBatch | ColaWorldError, dict[str, str]]:
        step, micro = item
        known = set(self.data.damage_report.files)
        generator = step_generator(self.seed, self.phase, step, "data", micro)
        try:
            batch: ClipBatch | ColaWorldError = self.draw(self.data, generator)
        except ColaWorldError as error:
            batch = error
        found = self.data.damage_report.files
        return batch, {file: reason for file, reason in found.items() if file not in known}


def batches(
    data: TrainingData,
    draw: Draw,
    seed: int,
    phase: str,
    steps: range,
    micros: Sequence[int] = (0,),
) -> Iterator[ClipBatch]:
    """The batches of the ``steps``, in order; of each step, those of the numbers ``micros``.

    Raises ColaWorldError when nothing can be read any more, or a reader has died.
    """
    workers, wanted = data.workers, list(product(steps, micros))
    loader: DataLoader[object] = DataLoader(
        _Steps(data, draw, seed, phase),
        batch_size=None,
        sampler=wanted,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_interrupts,
        generator=torch.Generator(),
    )
    items = iter(loader)
    for _ in wanted:
        try:
            batch, damaged = next(items)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise ColaWorldError(
                f"A process that reads the data has died ({str(error).splitlines()[0]}): lower "
                "loading.workers, or set it to 0."
            ) from error
        for file, reason in damaged.items():
            data.damage_report.add(file, reason)
        if isinstance(batch, ColaWorldError):
            raise batch
        yield batch


def _leave_interrupts(worker: int) -> None:
    """Ctrl-C is for the main process, which ends its readers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_it_is(item: T) -> T:
    return item
