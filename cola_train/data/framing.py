"""Frames of any size at the one that a model takes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cola_train.data.video import Frames


def square(frames: Frames, size: int) -> Tensor:
    """uint8 (T, H, W, 3) -> uint8 (T, size, size, 3): the largest square in the middle, resized."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = torch.from_numpy(frames[:, top : top + side, left : left + side].copy())
    if side == size:
        return images.contiguous()
    planes = images.movedim(-1, 1)
    planes = interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return planes.movedim(1, -1).contiguous()
