"""What the phases share that learn from latent actions: how they pass the quantizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.models.quantizer import VectorQuantizer
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Batch, TrainingData
from cola_train.data.crops import random_crops
from cola_train.evaluation.probe import linear_probe
from cola_train.phases.phase import Logs, Phase
from cola_train.sharding import load_whole, whole_state


@dataclass
class LatentActionPhase(Phase):
    """The first ``continuous_steps`` pass the IDM's tokens on unquantised. Then, if ``fit_codes``,
    the codebook is initialised from data by k-means, and for ``restart_steps`` dead codes are
    restarted. ``quantizer_weight`` weighs the codebook and commitment losses. Clips are cut to
    random crops of at least ``crop_scale`` of their area (1: not at all), which the paper does
    wherever the IDM learns. Every evaluation fits a linear probe of the real actions on
    ``probe_clips`` training clips (0: none).

    Raises ColaWorldError for a phase that ends before its codebook is initialised, or for a
    ``crop_scale`` outside (0, 1]."""

    quantizer_weight: float = 0.05
    continuous_steps: int = 0
    fit_codes: bool = False
    restart_steps: int = 0
    restart_every: int = 50
    crop_scale: float = 1.0
    probe_clips: int = 0
    _train: TrainingData | None = field(default=None, init=False, repr=False)
    _seen: list[Tensor] = field(default_factory=list, init=False, repr=False)

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

    def quantised(self, step: int) -> bool:
        return self.has_latent_actions and step >= self.continuous_steps

    @property
    def needs_actions(self) -> bool:
        return self.probe_clips > 0

    def start(self, data: TrainingData) -> None:
        self._train = data

    def draw(self, data: TrainingData, generator: torch.Generator, count: int) -> Batch:
        batch = super().draw(data, generator, count)
        return batch if self.crop_scale == 1 else random_crops(batch, self.crop_scale, generator)

    def probe(self, model: ColaWorldModel, held_out: TrainingData) -> Logs:
        """``probe_l1``: the mean held-out error over the action's dimensions (Table 1, Fig. 4a)."""
        if not self.probe_clips:
            return {}
        assert self._train is not None, "start() comes first"
        found = linear_probe(model, self._train, held_out, self.clip, self.probe_clips)
        return {"probe_l1": fmean(found.l1)}

    def latent_actions(
        self, model: ColaWorldModel, batch: Batch, step: int
    ) -> tuple[Tensor, Tensor, Logs]:
        """Action vectors (B, T - 1, tokens, code_size), their weighted loss, and logs."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and "idm" in self.learns):
            tokens = model.action_tokens(batch.frames, batch.latents)
        if not self.quantised(step):
            return model.quantizer.normalize(tokens), torch.zeros((), device=tokens.device), {}
        quantized = model.quantizer(tokens)
        self._seen.append(quantized.codes.flatten(0, -2))
        logs = {"quantizer": float(quantized.loss.detach())}
        return quantized.vectors, self.quantizer_weight * quantized.loss, logs

    @contextmanager
    def upkeep(
        self,
        model: ColaWorldModel,
        step: int,
        generator: torch.Generator,
        tokens: Callable[[], Tensor],
        gather: Callable[[list[Tensor]], Tensor],
    ) -> Iterator[None]:
        """The codebook is fitted before the losses of the step, its usage followed and dead codes
        restarted after them: by the global batch, so equally in all processes."""
        self.codes, self._seen = None, []
        if not self.quantised(step) or not isinstance(model.quantizer, VectorQuantizer):
            yield
            return
        learns, since = "quantizer" in self.learns, step - self.continuous_steps
        fit = self.fit_codes and since == 0
        restart = learns and 0 < since < self.restart_steps and since % self.restart_every == 0
        tended = VectorQuantizer(model.quantizer.config).to(model.quantizer.usage.device)
        tended.load_state_dict(whole_state(model.quantizer))
        if fit:
            tended.fit_codebook(tokens(), generator)
            load_whole(model.quantizer, tended.state_dict())
        elif restart:
            drawn = tokens()
            tended.track_usage(tended(drawn).codes)
            tended.restart_dead_codes(drawn, generator)
        yield
        self.codes = gather(self._seen)
        if learns:
            if not restart:
                tended.track_usage(self.codes)
            load_whole(model.quantizer, tended.state_dict())
