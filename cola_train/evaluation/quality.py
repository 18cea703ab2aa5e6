"""The quality of imagined videos by every usual measure, for each kind of action."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.lpips_distance import LPIPS
from cola_train.data.clips import TrainingData
from cola_train.data.mixture import check_length
from cola_train.evaluation.frechet import VideoFeatures, frechet_video_distance
from cola_train.evaluation.horizon import CONTEXT, imagined
from cola_train.evaluation.pixels import WINDOW, moving_pixels, psnr, ssim_map


@dataclass(frozen=True)
class Networks:
    """The networks of the learned measures, which go where the frames are; without one, no such
    measure."""

    lpips: LPIPS | None = None
    video: VideoFeatures | None = None

    @classmethod
    def of_files(cls, lpips: str | None, fvd: str | None) -> Networks:
        """From the user's files of AlexNet and of I3D. ColaWorldError where one does not fit."""
        return cls(
            None if lpips is None else LPIPS(lpips), None if fvd is None else VideoFeatures(fvd)
        )


def video_quality(
    model: ColaWorldModel,
    clips: TrainingData,
    horizon: int,
    networks: Networks,
    context: int = CONTEXT,
    count: int = 240,
    clip: int = 8,
) -> dict[str, dict[str, float]]:
    """Measures of imagined frames 1 to ``horizon`` after ``context`` true ones.

    By kind of action as in ``multi_step_psnr``: ``own`` (IDM codes), ``adapter`` (real actions
    through it), and ``copy``, which repeats the last context frame. PSNR in dB, SSIM and LPIPS
    times 100; the ``moving_`` variants look only at pixels that differ from the last context frame.
    FVD needs clips of at least 9 frames; ``clips`` says of how many.

    Raises ColaWorldError when the clips are too short.
    """
    check_length(clips, context + horizon)
    batch = clips.sample(count, context + horizon, torch.Generator().manual_seed(0))
    batch = batch.to(model.device).encoded(model)
    truth = batch.frames.float() / 255
    last, future = truth[:, context - 1 : context], truth[:, context:]
    videos = {"copy": last.expand_as(future), **imagined(model, batch, context, clip)}
    moving = moving_pixels(last, future)
    return {
        name: measures(frames, future, moving, networks) | {"clips": float(len(frames))}
        for name, frames in videos.items()
    }


def measures(frames: Tensor, truth: Tensor, moving: Tensor, networks: Networks) -> dict[str, float]:
    """frames, truth (B, T, S, S, 3) in [0, 1]; moving (B, T, S, S) bool."""
    error = (frames - truth).square().mean(-1)
    border = WINDOW // 2
    similarity = ssim_map(frames, truth)
    inner = moving[..., border:-border, border:-border]
    found = {
        "psnr": float(psnr(error.mean((-1, -2))).mean()),
        "moving_psnr": float(psnr(error[moving].mean())),
        "ssim": 100 * float(similarity.mean()),
        "moving_ssim": 100 * float(similarity[inner].mean()),
    }
    if networks.lpips is not None:
        lpips = networks.lpips.to(frames.device)
        pairs = zip(frames.flatten(0, 1).split(64), truth.flatten(0, 1).split(64), strict=True)
        found["lpips"] = 100 * float(torch.cat([lpips(a, b) for a, b in pairs]).mean())
    if networks.video is not None:
        found["fvd"] = frechet_video_distance(frames, truth, networks.video)
    return found
