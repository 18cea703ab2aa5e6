"""Phase: train the adapter from real actions to the codes of the frozen latent action model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import ClipBatch, TrainingData, fixed_batch
from cola_train.evaluation.controllability import controllability
from cola_train.phases.phase import Logs, Loss, Phase, Prepared, Step


@dataclass
class Adaptation(Phase):
    """Two 32-way classifications (CoLA-World, appendix C.2)."""

    @property
    def uses(self) -> set[str]:
        return {*self.learns, "idm", "quantizer", "adapter"}

    @property
    def needs_actions(self) -> bool:
        return True

    def loss(self, model: ColaWorldModel, batch: ClipBatch, step: Step) -> Loss:
        return self._classify(model, batch)

    def _classify(self, model: ColaWorldModel, batch: ClipBatch) -> Loss:
        with torch.no_grad():
            codes = model.quantizer(model.action_tokens(batch.frames, batch.latents)).codes
        logits = model.adapter(batch.actions, batch.latents[:, :-1]).float()
        loss = cross_entropy(logits.flatten(0, -2), codes.flatten())
        accuracy = (logits.argmax(-1) == codes).float().mean((0, 1))
        return Loss(loss, {f"accuracy_{i}": float(a) for i, a in enumerate(accuracy)})

    @torch.no_grad()
    def evaluate(self, model: ColaWorldModel, held_out: TrainingData, prepared: Prepared) -> Logs:
        batch = fixed_batch(held_out, model, self.measured_clips, self.clip)
        with autocast(model.device):
            found = self._classify(model, batch)
        return found.logs | controllability(
            model, held_out, self.clip, adapter=True, count=self.measured_clips
        )
