"""Random crops of clips, which make a latent action model see movement rather than places."""

from __future__ import annotations

import torch

from cola_env.inputs import resized
from cola_train.data.clips import Batch


def random_crops(batch: Batch, scale: float, generator: torch.Generator) -> Batch:
    """Every clip cut to a random square with at least ``scale`` of its area, the same in all its
    frames, and brought back to its size. Without latents, which belong to the whole frames."""
    frames = torch.stack([_cropped(clip, scale, generator) for clip in batch.frames])
    return Batch(frames, torch.empty(len(frames), 0), batch.actions)


def _cropped(clip: torch.Tensor, scale: float, generator: torch.Generator) -> torch.Tensor:
    """clip (T, S, S, 3) uint8."""
    area, down, right = torch.rand(3, generator=generator).tolist()
    size = clip.shape[1]
    side = round(size * (scale + (1 - scale) * area) ** 0.5)
    y, x = (int(share * (size - side + 1)) for share in (down, right))
    cut = resized(clip[None, :, y : y + side, x : x + side], size)[0]
    return (cut * 255).round().clamp(0, 255).to(torch.uint8)
