"""Frames at the size that a model of pixels takes, and as the bytes that people look at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cola_env.errors import ColaWorldError
from cola_env.inputs import ROUNDING


def to_bytes(frames: Tensor) -> Tensor:
    """frames (...) float in [0, 1] -> uint8."""
    return (frames * 255).round().to(torch.uint8)


def unit_range(frames: Tensor) -> Tensor:
    """frames (..., S, S, 3), uint8 or float in [0, 1] -> float32 in [0, 1].

    Raises ColaWorldError for floats that are not, or NaN, other types and other shapes.
    """
    shape = tuple(frames.shape)
    if len(shape) < 3 or shape[-1] != 3 or shape[-2] != shape[-3] or not frames.numel():
        raise ColaWorldError(f"Frames have the shape (..., S, S, 3), not {shape}.")
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    if not frames.is_floating_point():
        raise ColaWorldError(f"Frames are uint8, or floats in [0, 1], not {frames.dtype}.")
    low, high = (float(x) for x in frames.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ColaWorldError(
            f"Frames are uint8, or floats in [0, 1]; these floats reach from {low:g} to {high:g}."
        )
    return frames.float()


def resized(frames: Tensor, size: int) -> Tensor:
    """frames (B, T, S, S, 3), uint8 or float in [0, 1] -> float32 (B, T, size, size, 3)."""
    frames = unit_range(frames)
    if frames.shape[-2] == size:
        return frames
    images = frames.flatten(0, 1).movedim(-1, 1)
    images = interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.movedim(1, -1).unflatten(0, frames.shape[:2])
