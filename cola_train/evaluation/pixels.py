"""Measures of pictures: PSNR, structural similarity (Wang et al., TIP 2004), and what moves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2  # of frames in [0, 1]


def psnr(mean_squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of frames in [0, 1]."""
    return -10 * torch.log10(mean_squared_error.clamp_min(1e-10))


def moving_pixels(before: Tensor, after: Tensor, threshold: float = 0.05) -> Tensor:
    """Where a picture changed: frames (..., S, S, 3) in [0, 1] -> bool (..., S, S)."""
    return (after - before).abs().amax(-1) > threshold


def ssim_map(frames: Tensor, truth: Tensor) -> Tensor:
    """SSIM around every pixel that is at least 5 from the border, the mean of the channels.

    Local means and variances are those under a Gaussian window of 11 x 11, sigma 1.5.

    Args:
        frames, truth: (..., S, S, 3) in [0, 1].

    Returns:
        (..., S - 10, S - 10) in [-1, 1].
    """
    shape = frames.shape[:-3]
    x, y = (each.flatten(0, -4).movedim(-1, 1).double() for each in (frames, truth))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return (luminance * structure).mean(1).unflatten(0, shape)


def _blur(images: Tensor) -> Tensor:
    """images (B, C, H, W) -> (B, C, H - 10, W - 10)."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    channels = images.shape[1]
    kernel = weights.expand(channels, 1, -1)
    images = conv2d(images, kernel[:, :, :, None], groups=channels)
    return conv2d(images, kernel[:, :, None, :], groups=channels)
