"""What a world model refuses: frames, actions and noise that do not fit it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cola_env.errors import ColaWorldError
from cola_env.inputs import check_actions, check_codes
from cola_env.models.latent_action_diffusion import LatentActionDiffusion

ROUNDING = 1e-3
"""By how much numbers may miss their range: half precision and resampling do."""


def check_frames(model: LatentActionDiffusion, frames: Tensor) -> None:
    """Raises ColaWorldError unless frames are uint8 (B, C, S, S, 3) of the model's size."""
    size = model.config.image_size
    fits = frames.ndim == 5 and tuple(frames.shape[2:]) == (size, size, 3) and frames.numel() > 0
    if frames.dtype != torch.uint8 or not fits:
        raise ColaWorldError(
            f"A model takes frames of shape (B, C, {size}, {size}, 3) as uint8, "
            f"not {tuple(frames.shape)} as {str(frames.dtype).removeprefix('torch.')}."
        )


def check_moves(
    model: LatentActionDiffusion, actions: Tensor, mode: str, *leading: int | str
) -> None:
    """Raises ColaWorldError unless actions have the shape (*leading, *action_shape(mode)) and are
    codes of the codebook, finite vectors where latent actions are continuous, or real actions in
    [-1, 1]. Waits for a GPU where the actions lie on one."""
    latent = mode == "latent"
    check_actions(actions.shape, leading, model.action_shape(mode), latent)
    if latent and not model.continuous:
        entries = torch.tensor([model.quantizer.config.num_codes], device=actions.device)
        check_codes(actions, entries)
        return
    if actions.is_complex():
        raise ColaWorldError("Actions are real numbers, not complex ones.")
    largest = float(actions.detach().double().abs().amax())
    if not largest < math.inf:
        raise ColaWorldError("The actions contain NaN or infinity; give finite numbers.")
    if not latent and largest > 1 + ROUNDING:
        raise ColaWorldError(
            f"Actions must lie in [-1, 1], but one is of size {largest:g}: scale or clip them."
        )


def check_noise(noise: Tensor, *shape: int) -> None:
    """Raises ColaWorldError unless noise has this shape."""
    if tuple(noise.shape) != shape:
        raise ColaWorldError(f"The noise must have shape {shape}, not {tuple(noise.shape)}.")
