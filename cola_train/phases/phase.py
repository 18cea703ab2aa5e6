"""What every training phase has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from cola_env.errors import ColaWorldError
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Batch, TrainingData

Logs = dict[str, float]


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
        codes: (N, tokens) of the actions of the last step; None without any.

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
    codes: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("clip", 2), ("lr_warmup", 0)):
            self.check(name, getattr(self, name) >= least, f"at least {least}")
        self.check("lr", 0 < self.lr < math.inf, "a positive number")
        scales = self.lr_scale.values()
        self.check("lr_scale", all(0 <= s < math.inf for s in scales), "numbers of at least 0")
        self.check("weight_decay", 0 <= self.weight_decay < math.inf, "a number of at least 0")
        self.check("ema_decay", 0 <= self.ema_decay < 1, "at least 0 and below 1")
        self.check_shares("lr_end")

    def check(self, name: str, right: bool, wanted: str) -> None:
        """Raises ColaWorldError, which names the setting, unless it is ``right``."""
        if not right:
            given = getattr(self, name)
            raise ColaWorldError(f"phases.{self.name}.{name}={given} must be {wanted}.")

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

    def start(self, data: TrainingData) -> None:  # noqa: B027
        """Hook before the first step, also of a resumed run."""

    def draw(self, data: TrainingData, generator: torch.Generator, count: int) -> Batch:
        """``count`` of the step's ``batch_size``; runs in the processes that read the data."""
        return data.sample(count, self.clip, generator)

    @abstractmethod
    def loss(
        self, model: ColaWorldModel, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Logs]:
        """The loss (scalar) of one batch on the model's device, and logs."""

    @contextmanager
    def upkeep(
        self,
        model: ColaWorldModel,
        step: int,
        generator: torch.Generator,
        tokens: Callable[[], Tensor],
        gather: Callable[[list[Tensor]], Tensor],
    ) -> Iterator[None]:
        """Around the losses of a step and their gradients: what changes the model besides them.

        ``generator`` is that of the first micro-batch's loss. ``tokens`` infers the IDM's tokens
        (N, tokens, code_size) of the step's global batch; ``gather`` joins what each micro-batch of
        this process has (n, ...) with that of the others.
        """
        yield

    def evaluate(self, model: ColaWorldModel, held_out: TrainingData) -> Logs:
        """Measures on held-out clips that are logged along the way."""
        return {}

    def finish(self, model: ColaWorldModel, data: TrainingData) -> None:  # noqa: B027
        """Hook after the last step, with the averaged weights in place."""
