"""Rectified flow (Liu et al., arXiv 2209.03003) with Open-Sora v1.2's conventions.

``t`` in [0, 1] is the noise level: 0 is data, 1 is noise; the velocity points from noise to data.
"""

from __future__ import annotations

from collections.abc import Callable

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


def shift_factor(height: int, width: int, frames: int) -> float:
    """r = sqrt(H W / 512^2) sqrt(T) of clips of H x W pixels with T latent frames.

    Larger and longer clips need more noise to hide what they show. Open-Sora v1.2 takes T from the
    number of frames before compression in time, and so gets 0 for clips shorter than 17.
    """
    return (height * width / 512**2 * frames) ** 0.5


def shift_levels(t: Tensor, shift: float) -> Tensor:
    """t' = r t / (1 + (r - 1) t), which moves noise levels in [0, 1] towards 1 for r > 1."""
    return shift * t / (1 + (shift - 1) * t)


def sample(
    velocity: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    noised: Tensor,
    scheduler: FlowMatchEulerDiscreteScheduler,
) -> Tensor:
    """Denoise the frames of clips together, around clean frames that stay as they are.

    Args:
        velocity: of clips (B, T, C, H, W) at noise levels (B, T) in [0, 1].
        start: noise (B, T, C, H, W), and clean latents where ``noised`` (B, T) is False.
    """
    latents, mask = start, noised[:, :, None, None, None]
    for timestep in scheduler.timesteps:
        level = noised * (timestep / scheduler.config.num_train_timesteps)
        stepped = scheduler.step(-velocity(latents, level), timestep, latents, return_dict=False)
        latents = torch.where(mask, stepped[0], start)
    return latents


def sample_clip_levels(batch: int, frames: int, shift: float, generator: torch.Generator) -> Tensor:
    """Noise levels (batch, frames) of training clips as in Open-Sora v1.2: one level a clip.

    It is logit-normal, then shifted; the first k frames are clean (level 0), k as in
    ``sample_noise_levels``.
    """
    levels = torch.randn(batch, 1, generator=generator, device=generator.device).sigmoid()
    return shift_levels(levels, shift) * ~clean_frames(batch, frames, generator)


def sample_noise_levels(
    batch: int,
    frames: int,
    pure_noise: float,
    generator: torch.Generator,
    max_context: int | None = None,
) -> Tensor:
    """Noise levels (batch, frames) of training clips, independent for every frame.

    A share ``pure_noise`` of them is exactly 1, where few-step inference starts; the others are
    logit-normal, as in Open-Sora's training. The first k frames are clean (level 0): k is 1 in half
    of the clips, else uniform in [1, max_context], by default in [1, frames - 1].
    """
    device = generator.device
    levels = torch.randn(batch, frames, generator=generator, device=device).sigmoid()
    pure = torch.rand(batch, frames, generator=generator, device=device) < pure_noise
    levels = torch.where(pure, torch.ones_like(levels), levels)
    return levels * ~clean_frames(batch, frames, generator, max_context)


def clean_frames(
    batch: int, frames: int, generator: torch.Generator, max_context: int | None = None
) -> Tensor:
    """(batch, frames) bool: which frames of training clips are context, at least the first."""
    device = generator.device
    most = frames - 1 if max_context is None else min(max_context, frames - 1)
    many = torch.randint(1, most + 1, (batch,), generator=generator, device=device)
    one = torch.rand(batch, generator=generator, device=device) < 0.5
    clean = torch.where(one, torch.ones_like(many), many)
    return torch.arange(frames, device=device) < clean[:, None]
