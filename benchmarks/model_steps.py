"""A training step and a prediction of a model of any size, at any batch, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import timed
from cola_env.errors import ColaWorldError
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Clips
from cola_train.describe import describe
from cola_train.phases import FlowMatching, Step

Result = dict[str, Any]
BatchStep = Callable[[int], object]
"""What is done for a batch of so many."""

LEARNS = ["stdit", "conditioner", "idm", "quantizer"]
"""End to end."""
REPEATS = 3


class Budget:
    """Seconds that measuring may take."""

    def __init__(self, seconds: float = float("inf")) -> None:
        self._ends = time.monotonic() + seconds

    def allows(self, seconds: float) -> bool:
        """Whether so many are left."""
        return time.monotonic() + seconds < self._ends


def training_step(model: ColaWorldModel, frames: int, *, recompute: bool) -> BatchStep:
    """One optimiser step of end-to-end training on clips of ``frames`` frames: flow matching
    through the latent actions.

    recompute: activations in the backward pass.
    """
    phase = FlowMatching(
        "end_to_end", 1, LEARNS, actions="latent", pure_noise=0.0, motion_weight=0.0
    )
    model.requires_grad_(False)
    for component in phase.components(model).values():
        component.requires_grad_(True)
    if recompute:
        model.enable_gradient_checkpointing()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=7.5e-5, fused=True)
    size = model.config.image_size
    pictures = torch.randint(0, 256, (1, frames, size, size, 3), dtype=torch.uint8)
    clips = Clips(pictures, torch.zeros(1, frames - 1, model.config.action_dim)).encode(model)
    prepared, generator = phase.prepare(clips), torch.Generator().manual_seed(0)

    half = torch.autocast(model.device.type, torch.bfloat16)

    def step(batch: int) -> None:
        phase.batch_size, phase.clip = batch, frames
        with half if model.dtype == torch.bfloat16 else autocast(model.device):
            drawn = phase.draw(clips, generator, batch).to(model.device)
            loss = phase.loss(model, drawn, Step(0, generator, prepared)).value
        loss.backward()
        if not torch.isfinite(loss):
            raise ColaWorldError("The loss of the training step is not finite.")
        torch.nn.utils.clip_grad_norm_(learned, 1.0, foreach=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def training_tflop(settings: dict[str, Any], frames: int) -> float:
    """Operations of a training step for one clip: three times those of the forward pass; what is
    recomputed does not count."""
    costs = describe(settings, 1, frames)
    return 3 * sum(costs[name].flops for name in LEARNS) / 1e12


def prediction_step(model: ColaWorldModel, frames: int) -> BatchStep:
    """One prediction of ``frames`` frames behind one: sampling with guidance, then the VAE."""
    size = model.config.image_size

    def step(batch: int) -> None:
        first = torch.zeros(batch, 1, size, size, 3, dtype=torch.uint8)
        codes = torch.zeros(batch, frames, 2, dtype=torch.long)
        if not model.predict(first, codes, action_mode="latent", seed=0).isfinite().all():
            raise ColaWorldError("The predicted frames are not finite.")

    return step


def doubled_batches(
    step: BatchStep,
    device: torch.device,
    tflop: float | None = None,
    budget: Budget | None = None,
) -> list[Result]:
    """Time of ``step`` at batch 1, and on a GPU at doubled batches while memory and budget last.

    ``tflop``: operations for one clip; None: those of the first call are counted, which must not
    learn (the counter holds on to what the backward pass recomputes). On a GPU a first call of
    every batch warms up; the time is the median of three more.
    """
    results: list[Result] = []
    batch = 1
    while True:
        try:
            with FlopCounterMode(display=False) if tflop is None else nullcontext() as counter:
                seconds = [timed(partial(step, batch), device)]
            if counter is not None:
                tflop = counter.get_total_flops() / 1e12
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                seconds = [timed(partial(step, batch), device) for _ in range(REPEATS)]
        except torch.cuda.OutOfMemoryError:
            return results
        assert tflop is not None
        result: Result = {"batch": batch, "seconds": median(seconds), "tflop": batch * tflop}
        result["tflop_per_second"] = result["tflop"] / result["seconds"]
        if device.type == "cuda":
            result["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        results.append(result)
        batch *= 2
        within = budget is None or budget.allows(2 * (1 + REPEATS) * result["seconds"])
        if device.type != "cuda" or not within:
            return results


def each_measured(
    counts: Iterable[int],
    step: BatchStep,
    device: torch.device,
    budget: Budget,
    repeats: int = REPEATS,
) -> dict[int, float]:
    """Seconds of ``step`` for each of the growing ``counts``, the median of ``repeats`` calls after
    one that does not count, while memory and budget last."""
    found: dict[int, float] = {}
    for count in counts:
        last = max(found, default=count)
        if found and not budget.allows((1 + repeats) * found[last] * count / last):
            break
        try:
            timed(partial(step, count), device)
            found[count] = median(timed(partial(step, count), device) for _ in range(repeats))
        except torch.cuda.OutOfMemoryError:
            break
    return found
