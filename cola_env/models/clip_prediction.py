"""Prediction of whole clips: all frames of the future are denoised together, as in Open-Sora."""

from __future__ import annotations

import torch
from torch import Tensor

from cola_env.models.latent_action_diffusion import LatentActionDiffusion
from cola_env.models.rectified_flow import euler_scheduler, sample
from cola_env.models.vae import group_actions


def predict_clip(
    model: LatentActionDiffusion,
    clean: Tensor,
    vectors: Tensor,
    num_inference_steps: int,
    guidance_scale: float,
    generator: torch.Generator | None,
) -> Tensor:
    """The latents of a clip that starts with real frames, given the actions of all of it.

    Guidance is v_u + s (v_c - v_u) with the zero vector as no action; both halves are one batch.

    Args:
        clean: latents of the context (B, C, c, h, w), which stay as they are.
        vectors: between all frames of the clip (B, frames - 1, tokens * code_size).

    Returns:
        Latents (B, T, c, h, w), T = frames unless they are compressed in time.

    Raises:
        ColaWorldError: a number of frames that gives no whole latents.
    """
    vectors = group_actions(vectors, model.frames_per_latent)
    vectors = torch.cat([torch.zeros_like(vectors[:, :1]), vectors], dim=1)
    batch, length = vectors.shape[:2]
    shape = (batch, length, *clean.shape[2:])
    source = generator.device if generator is not None else model.device
    start = torch.randn(shape, generator=generator, device=source).to(model.device)
    start[:, : clean.shape[1]] = clean
    noised = torch.arange(length, device=model.device).expand(batch, -1) >= clean.shape[1]
    time, guided = model.clip_context(length), guidance_scale != 1.0
    if guided:
        vectors = torch.cat([vectors, torch.zeros_like(vectors)])

    def velocity(latents: Tensor, level: Tensor) -> Tensor:
        if not guided:
            return model.velocity(latents, level, vectors, latents, time)[0]
        both = latents.repeat(2, 1, 1, 1, 1)
        found, _ = model.velocity(both, level.repeat(2, 1), vectors, both, time)
        with_action, without = found.chunk(2)
        return without + guidance_scale * (with_action - without)

    scheduler = euler_scheduler(num_inference_steps, model.noise_shift(length))
    return sample(velocity, start, noised, scheduler)
