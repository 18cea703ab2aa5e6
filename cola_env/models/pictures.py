"""Frames at the size that a model of pixels takes, and as the bytes that people look at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def to_bytes(frames: Tensor) -> Tensor:
    """frames (...) float in [0, 1] -> uint8."""
    return (frames * 255).round().to(torch.uint8)


def resized(frames: Tensor, size: int) -> Tensor:
    """frames (B, T, S, S, 3), uint8 or float in [0, 1] -> float32 (B, T, size, size, 3)."""
    frames = frames.float() / (255 if frames.dtype == torch.uint8 else 1)
    if frames.shape[-2] == size:
        return frames
    images = frames.flatten(0, 1).movedim(-1, 1)
    images = interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.movedim(1, -1).unflatten(0, frames.shape[:2])
