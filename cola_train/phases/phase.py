"""What the training phases have in common: their settings, and what a loss takes and returns.

A phase is its settings alone; nothing in it changes while it trains. Which components learn is
``learns``; gradients may flow through the others.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from cola_env.errors import ColaWorldError, check_setting
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import ClipBatch, TrainingData, fixed_batch, random_crops
from cola_train.evaluation.controllability import linear_probe

Logs = dict[str, float]

STATISTICS_CLIPS = 128
"""Clips whose tokens tell mean and variance of all."""


@dataclass(frozen=True)
class Prepared:
    """What a phase gets ready before its first step, also of a resumed run (``Phase.prepare``).

    Attributes:
        train: the training data.
        background: the median picture of it (S, S, 3) in [0, 1], for Reconstruction.
        teacher: the model to imitate, for Distillation.
        rare: which pixels of it move, but rarely (S, S) bool, for FlowMatching.
    """

    train: TrainingData
    background: Tensor | None = None
    teacher: ColaWorldModel | None = None
    rare: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """One step of a phase, as its loss is given it.

    Attributes:
        number: of the steps before it.
        generator: all that is random comes from it.
        prepared: what the phase got ready.
    """

    number: int
    generator: torch.Generator
    prepared: Prepared


class Loss(NamedTuple):
    """Of one batch.

    Attributes:
        value: what is minimised, a scalar.
        logs: what is logged.
        codes: (N, tokens) of the batch's latent actions; None without any.
    """

    value: Tensor
    logs: Logs
    codes: Tensor | None = None


@dataclass
class Phase(ABC):
    """One phase of a recipe.

    Attributes:
        name: folder and log name.
        steps: optimiser steps.
        learns: names of the model's components that learn; all others are frozen.
        batch_size: clips (or frames) a step, in all processes together.
        clip: frames of a clip.
        lr: learning rate after a linear warm-up of ``lr_warmup`` steps; it falls to the share
            ``lr_end`` of it by a cosine over the phase (1: it stays).
        lr_scale: factor on ``lr`` by component name.
        ema_decay: of the moving average of the weights that the phase hands on.
        measured_clips: held-out clips that an evaluation measures.

    Raises:
        ColaWorldError: a setting that cannot be.
    """

    on_latents: ClassVar[bool] = True
    """Whether the autoencoder is trained, so that batches come with latents."""

    name: str
    steps: int
    learns: list[str]
    batch_size: int = 16
    clip: int = 8
    lr: float = 3e-4
    lr_warmup: int = 100
    lr_end: float = 0.1
    lr_scale: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    measured_clips: int = 96

    def __post_init__(self) -> None:
        least_of = {"steps": 1, "batch_size": 1, "clip": 2, "lr_warmup": 0, "measured_clips": 2}
        for name, least in least_of.items():
            self.check(name, getattr(self, name) >= least, f"at least {least}")
        self.check("lr", 0 < self.lr < math.inf, "a positive number")
        scales = self.lr_scale.values()
        self.check("lr_scale", all(0 <= s < math.inf for s in scales), "numbers of at least 0")
        self.check("weight_decay", 0 <= self.weight_decay < math.inf, "a number of at least 0")
        self.check("ema_decay", 0 <= self.ema_decay < 1, "at least 0 and below 1")
        self.check_shares("lr_end")

    def check(self, name: str, right: bool, wanted: str) -> None:
        """Raises ColaWorldError, which names the setting, unless it is ``right``."""
        check_setting(f"phases.{self.name}.{name}", getattr(self, name), right, wanted)

    def check_shares(self, *names: str) -> None:
        for name in names:
            self.check(name, 0 <= getattr(self, name) <= 1, "a share, 0 to 1")

    def components(self, model: ColaWorldModel) -> dict[str, nn.Module]:
        return {name: model.get_submodule(name) for name in self.learns}

    @property
    def uses(self) -> set[str]:
        """The model's components without which it cannot run."""
        return set(self.learns)

    @property
    def reads_latents(self) -> bool:
        """Whether its batches take latents that were made before, of whole frames."""
        return self.on_latents

    @property
    def needs_actions(self) -> bool:
        """Whether it draws only from data with real actions."""
        return False

    def prepare(self, train: TrainingData) -> Prepared:
        """What the steps of ``loss`` hold, and ``evaluate`` is given."""
        return Prepared(train)

    def draw(self, data: TrainingData, generator: torch.Generator, count: int) -> ClipBatch:
        """``count`` of the step's ``batch_size``; runs in the processes that read the data."""
        return data.sample(count, self.clip, generator)

    def augmented(self, batch: ClipBatch, generator: torch.Generator) -> ClipBatch:
        """What is drawn, on the model's device, changed at random."""
        return batch

    @abstractmethod
    def loss(self, model: ColaWorldModel, batch: ClipBatch, step: Step) -> Loss:
        """Of one batch on the model's device."""

    def evaluate(self, model: ColaWorldModel, held_out: TrainingData, prepared: Prepared) -> Logs:
        """Measures on held-out clips that are logged along the way."""
        return {}

    def finish(self, model: ColaWorldModel, train: TrainingData) -> None:  # noqa: B027
        """Changes ``model`` after the last step, with the averaged weights in place."""


class ActionVectors(NamedTuple):
    """Actions as a loss goes on with them.

    Attributes:
        vectors: (B, T - 1, tokens, code_size) or, of all tokens side by side, (B, T - 1, D).
        loss: the quantizer's, weighted; a scalar.
    """

    vectors: Tensor
    loss: Tensor
    logs: Logs
    codes: Tensor | None = None


@dataclass
class LatentActionPhase(Phase):
    """One that learns from latent actions.

    The first ``continuous_steps`` pass the IDM's tokens on unquantised. Then, if ``fit_codes``,
    the codebook is initialised from data by k-means, and for ``restart_steps`` dead codes are
    restarted (``CodebookUpkeep``). ``quantizer_weight`` weighs the codebook and commitment losses.
    Clips are cut to random crops of at least ``crop_scale`` of their area (1: not at all), which
    the paper does wherever the IDM learns. Every evaluation fits a linear probe of the real actions
    on ``probe_clips`` training clips (0: none).

    Raises ColaWorldError for a phase that ends before its codebook is initialised, or for a
    ``crop_scale`` outside (0, 1]."""

    quantizer_weight: float = 0.05
    continuous_steps: int = 0
    fit_codes: bool = False
    restart_steps: int = 0
    restart_every: int = 50
    crop_scale: float = 1.0
    probe_clips: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("continuous_steps", "restart_steps", "probe_clips"):
            self.check(name, getattr(self, name) >= 0, "at least 0")
        self.check("restart_every", self.restart_every >= 1, "at least 1")
        weight = self.quantizer_weight
        self.check("quantizer_weight", 0 <= weight < math.inf, "a number of at least 0")
        share = "a share of a frame above 0, and 1 for whole frames"
        self.check("crop_scale", 0 < self.crop_scale <= 1, share)
        if self.fit_codes and self.continuous_steps >= self.steps:
            name = f"phases.{self.name}"
            raise ColaWorldError(
                f"{name}.steps={self.steps} ends before the codebook is initialised, after "
                f"{name}.continuous_steps={self.continuous_steps}: lower both (steps_scale does)."
            )

    @property
    def has_latent_actions(self) -> bool:
        return True

    @property
    def reads_latents(self) -> bool:
        return self.crop_scale == 1

    @property
    def needs_actions(self) -> bool:
        return self.probe_clips > 0

    def quantised(self, step: int) -> bool:
        return self.has_latent_actions and step >= self.continuous_steps

    def restarts_codes(self, step: int) -> bool:
        since = step - self.continuous_steps
        return 0 < since < self.restart_steps and since % self.restart_every == 0

    def augmented(self, batch: ClipBatch, generator: torch.Generator) -> ClipBatch:
        return batch if self.crop_scale == 1 else random_crops(batch, self.crop_scale, generator)

    def latent_actions(self, model: ColaWorldModel, batch: ClipBatch, step: Step) -> ActionVectors:
        """Vectors (B, T - 1, tokens, code_size); gradients reach the IDM where it learns."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and "idm" in self.learns):
            tokens = model.action_tokens(batch.frames, batch.latents)
        if not self.quantised(step.number):
            no_loss = torch.zeros((), device=tokens.device)
            return ActionVectors(model.quantizer.normalize(tokens), no_loss, {})
        quantized = model.quantizer(tokens)
        codes = quantized.codes.flatten(0, -2)
        logs = {"quantizer": float(quantized.loss.detach())}
        return ActionVectors(
            quantized.vectors,
            self.quantizer_weight * quantized.loss,
            logs,
            codes if codes.shape[-1] else None,
        )

    def finish(self, model: ColaWorldModel, train: TrainingData) -> None:
        self.fit_statistics(model, train)

    def fit_statistics(self, model: ColaWorldModel, train: TrainingData) -> None:
        """Those by which the quantizer normalises tokens, of the averaged weights: tokens of the
        weights along the way have others (Izmailov et al. 2018, arXiv 1803.05407)."""
        if "idm" in self.learns and model.quantizer.config.over_batch:
            batch = fixed_batch(train, model, STATISTICS_CLIPS, self.clip)
            with torch.no_grad(), autocast(model.device):
                tokens = model.action_tokens(batch.frames, batch.latents)
            model.quantizer.fit_statistics(tokens)

    def probe(self, model: ColaWorldModel, train: TrainingData, held_out: TrainingData) -> Logs:
        """``probe_l1``: the mean held-out error over the action's dimensions (Table 1, Fig. 4a)."""
        if not self.probe_clips:
            return {}
        found = linear_probe(model, train, held_out, self.clip, self.probe_clips)
        return {"probe_l1": fmean(found.l1)}
