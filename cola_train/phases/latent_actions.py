"""What the phases share that learn from latent actions: how they pass the quantizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from cola_env.models.codebook import health_measures
from cola_env.models.quantizer import VectorQuantizer
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Batch, TrainingData
from cola_train.evaluation.probe import linear_probe
from cola_train.phases.phase import Logs, Phase


@dataclass
class LatentActionPhase(Phase):
    """The first ``continuous_steps`` pass the IDM's tokens on unquantised. Then, if ``fit_codes``,
    the codebook is initialised from data by k-means, and for ``restart_steps`` dead codes are
    restarted. ``quantizer_weight`` weighs the codebook and commitment losses. Every evaluation
    fits a linear probe of the real actions on ``probe_clips`` training clips (0: none)."""

    quantizer_weight: float = 0.05
    continuous_steps: int = 0
    fit_codes: bool = False
    restart_steps: int = 0
    restart_every: int = 50
    probe_clips: int = 0
    _train: TrainingData | None = field(default=None, init=False, repr=False)

    @property
    def needs_actions(self) -> bool:
        return self.probe_clips > 0

    def start(self, data: TrainingData) -> None:
        self._train = data

    def probe(self, model: ColaWorldModel, held_out: TrainingData) -> Logs:
        """``probe_l1``: the mean held-out error over the action's dimensions (Table 1, Fig. 4a)."""
        if not self.probe_clips:
            return {}
        assert self._train is not None, "start() comes first"
        found = linear_probe(model, self._train, held_out, self.clip, self.probe_clips)
        return {"probe_l1": fmean(found.l1)}

    def latent_actions(
        self, model: ColaWorldModel, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Logs]:
        """Action vectors (B, T - 1, tokens, code_size), their weighted loss, and logs."""
        tokens = model.action_tokens(batch.frames, batch.latents)
        if step < self.continuous_steps:
            return model.quantizer.normalize(tokens), torch.zeros((), device=model.device), {}
        if self.fit_codes and step == self.continuous_steps:
            model.quantizer.fit_codebook(tokens.flatten(0, -3), generator)
        quantized = model.quantizer(tokens)
        if "quantizer" in self.learns and isinstance(model.quantizer, VectorQuantizer):
            model.quantizer.track_usage(quantized.codes)
            since = step - self.continuous_steps
            if 0 < since < self.restart_steps and since % self.restart_every == 0:
                model.quantizer.restart_dead_codes(tokens.flatten(0, -3), generator)
        health = health_measures(quantized.codes, model.quantizer.config.num_codes)
        logs = {"quantizer": float(quantized.loss.detach()), **health}
        return quantized.vectors, self.quantizer_weight * quantized.loss, logs
