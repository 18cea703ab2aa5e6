"""What a world model loses when some of the latent actions that it imagines under are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.envs.starts import CONTEXT
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import psnr
from cola_train.data.clips import TrainingData, fixed_batch
from cola_train.data.mixture import check_length
from cola_train.evaluation.rollout_quality import imagine, inferred_codes

SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class WrongCodes:
    """Of imagined frames, a number for each of ``SHARES`` of wrong actions.

    Attributes:
        psnr: dB, the mean of the frames, as ``video_quality`` has it.
        error: mean squared error, of values in [0, 1].
        differ: share of the actions that are not the same in the clip they are taken from: what a
            swap really changes.
    """

    psnr: list[float]
    error: list[float]
    differ: float


def wrong_codes(
    model: ColaWorldModel, clips: TrainingData, horizon: int, count: int = 240
) -> WrongCodes:
    """Frames 1 to ``horizon`` after ``CONTEXT`` true ones, imagined under the IDM's codes, of which
    a share is swapped.

    Raises ColaWorldError when the clips are too short.
    """
    check_length(clips, CONTEXT + horizon)
    batch = fixed_batch(clips, model, count, CONTEXT + horizon)
    codes = inferred_codes(model, batch.frames)[:, CONTEXT - 1 :]
    truth = batch.frames[:, CONTEXT:].float() / 255
    errors = [
        (imagine(model, batch, swapped(codes, share), "latent") - truth).square().mean((-1, -2, -3))
        for share in SHARES
    ]
    return WrongCodes(
        psnr=[float(psnr(error).mean()) for error in errors],
        error=[float(error.mean()) for error in errors],
        differ=float((swapped(codes, 1.0) != codes).any(-1).float().mean()),
    )


def swapped(codes: Tensor, share: float, seed: int = 0) -> Tensor:
    """codes (B, T, tokens) with ``share`` of the B x T actions taken from the clip before, at the
    same step. What a smaller share takes, a larger one takes too."""
    places = codes[..., 0].numel()
    order = torch.randperm(places, generator=torch.Generator().manual_seed(seed))
    chosen = (order < round(share * places)).view(codes.shape[:-1])
    return torch.where(chosen.to(codes.device)[..., None], codes.roll(1, 0), codes)
