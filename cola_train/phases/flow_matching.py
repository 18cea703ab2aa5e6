"""Phases that train the world model and the latent action model by the flow matching loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.codebook import codebook_health
from cola_env.models.rectified_flow import add_noise, sample_noise_levels
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Batch, Clips
from cola_train.obedience import obedience
from cola_train.phases.phase import Logs, Phase


@dataclass
class FlowMatching(Phase):
    """Flow matching with actions from one of four sources.

    ``actions``: "none" (action-free pre-training), "latent" (the IDM's, with gradients into it
    where it learns: warm-up, end-to-end and finetuning), "direct" (real actions, the reference).
    Which components learn is the recipe's ``learns``: a warm-up freezes the world model while the
    gradients flow through it into the latent action model (CoLA-World, section 3.3).

    The first ``continuous_steps`` pass the IDM's tokens on unquantised; then the codebook is
    initialised from data by k-means and, for ``restart_steps``, dead codes are restarted.
    """

    actions: str = "none"
    clip: int = 8
    pure_noise: float = 0.5
    action_dropout: float = 0.1
    motion_weight: float = 2.0
    quantizer_weight: float = 0.05
    continuous_steps: int = 0
    restart_steps: int = 0
    restart_every: int = 50

    def loss(
        self, model: ColaWorldModel, clips: Clips, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Logs]:
        batch = clips.sample(self.batch_size, self.clip, generator).to(model.device)
        vectors, quantizer_loss, logs = self._actions(model, batch, step, generator)
        keep = torch.rand(vectors.shape[:2], generator=generator) >= self.action_dropout
        vectors = vectors * keep.to(vectors)[..., None]
        flow = self._flow_loss(model, batch.latents, vectors, generator)
        return flow + self.quantizer_weight * quantizer_loss, {"flow": float(flow.detach()), **logs}

    def _flow_loss(
        self, model: ColaWorldModel, latents: Tensor, vectors: Tensor, generator: torch.Generator
    ) -> Tensor:
        """vectors (B, T - 1, D) lead to the frames 1.. of latents (B, T, C, h, w)."""
        batch, frames = latents.shape[:2]
        t = sample_noise_levels(batch, frames, self.pure_noise, generator).to(latents)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noised = add_noise(latents, noise, t)
        previous = torch.cat([latents[:, :1], latents[:, :-1]], dim=1)
        actions = torch.cat([torch.zeros_like(vectors[:, :1]), vectors], dim=1)
        context = model.clip_context(latents.shape[1])
        velocity, _ = model.velocity(noised, t, actions, previous, context)
        error = (velocity - (latents - noise)).square().mean(2)
        if model.residual:
            error = error * t[..., None, None].square()
        moved = (latents - previous).square().mean(2)
        weight = 1 + self.motion_weight * (moved / moved.mean().clamp_min(1e-6)).clamp(max=10)
        weight = weight * (t > 0)[..., None, None]
        return (weight * error).sum() / weight.sum().clamp_min(1)

    def _actions(
        self, model: ColaWorldModel, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Logs]:
        nothing = torch.zeros((), device=model.device)
        if self.actions == "none":
            size = model.conditioner.embed.in_features
            return torch.zeros(*batch.actions.shape[:2], size, device=model.device), nothing, {}
        if self.actions == "direct":
            return model.action_in(batch.actions), nothing, {}
        tokens = model.action_tokens(batch.frames, batch.latents)
        if step < self.continuous_steps:
            return model.quantizer.normalize(tokens).flatten(-2), nothing, {}
        if self.continuous_steps and step == self.continuous_steps:
            model.quantizer.fit_codebook(tokens.flatten(0, -3), generator)
        quantized = model.quantizer(tokens)
        if "quantizer" in self.learns:
            model.quantizer.track_usage(quantized.codes)
            since = step - self.continuous_steps
            if 0 < since < self.restart_steps and since % self.restart_every == 0:
                model.quantizer.restart_dead_codes(tokens.flatten(0, -3), generator)
        health = codebook_health(quantized.codes.flatten(0, -2), model.quantizer.config.num_codes)
        logs = {
            "quantizer": float(quantized.loss.detach()),
            "max_usage": health.max_usage,
            "entropy": health.entropy,
        }
        return quantized.vectors.flatten(-2), quantized.loss, logs

    def evaluate(self, model: ColaWorldModel, held_out: Clips) -> Logs:
        return obedience(model, held_out, self.clip, adapter=False)
