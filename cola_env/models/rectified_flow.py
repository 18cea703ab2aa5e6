"""Rectified flow (Liu et al., arXiv 2209.03003) with Open-Sora v1.2's conventions.

``t`` in [0, 1] is the noise level: 0 is data, 1 is noise; the velocity points from noise to data.
"""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor


def add_noise(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t eps; clean and noise (B, T, C, H, W), t (B, T)."""
    t = t[:, :, None, None, None]
    return (1 - t) * clean + t * noise


def velocity_to_clean(clean: Tensor, noised: Tensor, t: Tensor) -> Tensor:
    """The velocity (x_0 - x_t) / t that leads from ``noised`` to ``clean``; t (B, T) in (0, 1]."""
    return (clean - noised) / t[:, :, None, None, None].clamp_min(1e-3)


def euler_scheduler(
    num_inference_steps: int, shift: float = 1.0
) -> FlowMatchEulerDiscreteScheduler:
    """diffusers' Euler scheduler on Open-Sora's grid t_i = 1 - i / N (its output is -velocity)."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(
        sigmas=[1 - i / num_inference_steps for i in range(num_inference_steps)]
    )
    return scheduler


def sample_noise_levels(
    batch: int, frames: int, pure_noise: float, generator: torch.Generator
) -> Tensor:
    """Noise levels (batch, frames) of training clips, independent for every frame.

    A share ``pure_noise`` of them is exactly 1, where few-step inference starts; the others are
    logit-normal, as in Open-Sora's training. The first k frames are clean (level 0): k is 1 in half
    of the clips, else uniform in [1, frames - 1].
    """
    device = generator.device
    levels = torch.randn(batch, frames, generator=generator, device=device).sigmoid()
    pure = torch.rand(batch, frames, generator=generator, device=device) < pure_noise
    levels = torch.where(pure, torch.ones_like(levels), levels)
    many = torch.randint(1, frames, (batch,), generator=generator, device=device)
    one = torch.rand(batch, generator=generator, device=device) < 0.5
    clean = torch.where(one, torch.ones_like(many), many)
    return levels * (torch.arange(frames, device=device) >= clean[:, None])
