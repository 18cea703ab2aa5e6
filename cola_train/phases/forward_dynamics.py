"""Phase: the latent action model of the two-stage baseline, by its forward dynamics model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.inputs import resized
from cola_env.models.latent_action.codebook_health import health_measures
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import psnr
from cola_train.data.clips import ClipBatch, TrainingData, fixed_batch
from cola_train.evaluation.video_metrics import moving_pixels
from cola_train.phases.phase import LatentActionPhase, Logs, Loss, Prepared, Step


@dataclass
class ForwardDynamics(LatentActionPhase):
    """Teacher-forced squared error of the next frame's pixels (CoLA-World, appendix B.1).

    Pixels that move weigh ``1 + motion_weight`` times more, as moving latents do in FlowMatching.
    """

    motion_weight: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        weight = self.motion_weight
        self.check("motion_weight", 0 <= weight < math.inf, "a number of at least 0")

    @property
    def uses(self) -> set[str]:
        return {*self.learns, "idm", "quantizer", "fdm"}

    def loss(self, model: ColaWorldModel, batch: ClipBatch, step: Step) -> Loss:
        actions = self.latent_actions(model, batch, step)
        frames = resized(batch.frames, model.fdm.config.image_size)
        error = (model.fdm(frames[:, :-1], actions.vectors) - frames[:, 1:]).square()
        moving = moving_pixels(frames[:, :-1], frames[:, 1:])
        weight = 1 + self.motion_weight * moving.float() / moving.float().mean().clamp_min(1e-3)
        pixels = (weight[..., None] * error).mean() / weight.mean()
        logs = {"pixels": float(pixels.detach()), **actions.logs}
        return Loss(pixels + actions.loss, logs, actions.codes)

    @torch.no_grad()
    def evaluate(self, model: ColaWorldModel, held_out: TrainingData, prepared: Prepared) -> Logs:
        """PSNR of the FDM's next frames on moving pixels under own and under shuffled actions."""
        self.fit_statistics(model, prepared.train)
        batch = fixed_batch(held_out, model, self.measured_clips, self.clip)
        frames = resized(batch.frames, model.fdm.config.image_size)
        moving = moving_pixels(frames[:, :-1], frames[:, 1:])

        def score(vectors: Tensor) -> float:
            error = (model.fdm(frames[:, :-1], vectors) - frames[:, 1:]).square().mean(-1)
            return float(psnr(error[moving].mean()))

        with autocast(model.device):
            own = model.quantizer(model.action_tokens(batch.frames, batch.latents))
            results = {"own": score(own.vectors), "shuffled": score(own.vectors.roll(1, 0))}
        results["gap"] = results["own"] - results["shuffled"]
        results |= health_measures(own.codes, model.quantizer.config.num_codes, "lam_")
        return results | self.probe(model, prepared.train, held_out)
