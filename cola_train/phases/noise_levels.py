"""The noise levels that clips are trained at."""

import torch
from torch import Tensor

from cola_env.models.rectified_flow import shift_levels


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
