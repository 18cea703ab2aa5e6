"""Picture metrics."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(mean_squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of frames in [0, 1]."""
    return -10 * torch.log10(mean_squared_error.clamp_min(1e-10))


def moving_pixels(before: Tensor, after: Tensor, threshold: float = 0.05) -> Tensor:
    """Where a picture changed: frames (..., S, S, 3) in [0, 1] -> bool (..., S, S)."""
    return (after - before).abs().amax(-1) > threshold
