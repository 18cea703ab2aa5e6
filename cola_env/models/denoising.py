"""Denoising of imagined frames behind the cached past: one frame at a time, or several together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.candidates import Candidates
from cola_env.models.latent_action_diffusion import LatentActionDiffusion
from cola_env.models.rectified_flow import euler_scheduler


@dataclass(frozen=True)
class Sampling:
    """``steps`` of Euler's method, noise levels shifted by ``shift``, guidance v_u + s (v_c - v_u)
    with the zero vector as no action, both halves in one batch; a scale s of 1 is none."""

    steps: int
    guidance_scale: float
    shift: float

    @property
    def guided(self) -> bool:
        return self.guidance_scale != 1.0


def denoise(
    model: LatentActionDiffusion,
    candidates: Candidates,
    frame: int,
    noise: Tensor,
    previous: Tensor,
    vectors: Tensor,
    sampling: Sampling,
) -> Tensor:
    """Latents (R, T, C, h, w) of T frames of R candidates, from ``frame`` of the horizon on.

    Args:
        noise: to start from (R, T, C, h, w).
        previous: clean latents of the frame before each (R, T, C, h, w), which only ``residual``
            models see.
        vectors: actions that lead to each frame (R, T, tokens * code_size).
    """
    latents, count = noise, noise.shape[1]
    if sampling.guided:
        vectors = torch.cat([vectors, torch.zeros_like(vectors)])
        previous = previous.repeat(2, 1, 1, 1, 1)
    time = candidates.time(model.head_dim, frame, count)
    past = candidates.past_of(frame, count)
    scheduler = euler_scheduler(sampling.steps, sampling.shift)
    for timestep in scheduler.timesteps:
        noised = latents.repeat(2, 1, 1, 1, 1) if sampling.guided else latents
        level = noised.new_full(noised.shape[:2], float(timestep) / 1000)
        velocity, _ = model.velocity(noised, level, vectors, previous, time, past)
        if sampling.guided:
            with_action, without = velocity.chunk(2)
            velocity = without + sampling.guidance_scale * (with_action - without)
        latents = scheduler.step(-velocity, timestep, latents, return_dict=False)[0]
    return latents


def keep(
    model: LatentActionDiffusion,
    candidates: Candidates,
    frame: int,
    latents: Tensor,
    previous: Tensor,
    vectors: Tensor,
    sampling: Sampling,
) -> None:
    """Let later frames attend to this denoised one, latents (R, 1, C, h, w).

    That takes one evaluation more, of the clean frame, unless the clean frames reach the model as
    ``previous``.
    """
    if not model.residual:
        led = candidates.led() if sampling.guided else candidates
        clean = latents.new_zeros(latents.shape[:2])
        time = led.time(model.head_dim, frame)
        model.velocity(latents, clean, vectors, previous, time, led.past_of(frame))
    if sampling.guided:
        candidates.share(frame)
