"""How good imagined videos are under each kind of action: PSNR by step, and the usual measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from cola_env.envs.starts import CONTEXT
from cola_env.inputs import to_bytes
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.lpips_distance import LPIPS
from cola_env.scoring.psnr import psnr
from cola_train.data.clips import ClipBatch, TrainingData, fixed_batch
from cola_train.data.mixture import check_length
from cola_train.evaluation.video_metrics import (
    SSIM_WINDOW,
    VideoFeatures,
    frechet_video_distance,
    moving_pixels,
    ssim_map,
)

AT_ONCE = 32
"""Clips that are imagined together, which bounds the memory."""


def multi_step_psnr(
    model: ColaWorldModel, clips: TrainingData, horizon: int = 10, count: int = 128
) -> dict[str, list[float]]:
    """PSNR (dB) of imagined frames 1 to ``horizon`` after ``CONTEXT`` true ones.

    Measured where the true frame differs from the last context frame. ``copy`` repeats that frame;
    ``own`` acts by the IDM's codes of the true clip (a "direct" model: by its real actions), and
    ``adapter`` by the real actions through the adapter.

    Raises ColaWorldError when the clips are too short.
    """
    videos, truth, moving = _beside_truth(model, clips, horizon, count)

    def score(frames: Tensor) -> list[float]:
        error = (frames - truth).square().mean(-1)
        return [float(psnr(error[:, t][moving[:, t]].mean())) for t in range(horizon)]

    return {name: score(frames) for name, frames in videos.items()}


def _beside_truth(
    model: ColaWorldModel, clips: TrainingData, horizon: int, count: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Videos of frames 1 to ``horizon`` (B, H, S, S, 3) by kind of action, and "copy"; the true
    ones; and where these differ from the last context frame, (B, H, S, S) bool."""
    check_length(clips, CONTEXT + horizon)
    batch = fixed_batch(clips, model, count, CONTEXT + horizon)
    truth = batch.frames.float() / 255
    last, future = truth[:, CONTEXT - 1 : CONTEXT], truth[:, CONTEXT:]
    videos = {"copy": last.expand_as(future), **imagined(model, batch)}
    return videos, future, moving_pixels(last, future)


def rollout_picture(
    model: ColaWorldModel,
    clips: TrainingData,
    path: Path,
    horizon: int = 10,
    count: int = 4,
) -> None:
    """A PNG of ``count`` held-out clips: the true frames above what is imagined of them.

    Raises ColaWorldError when the clips are too short.
    """
    check_length(clips, CONTEXT + horizon)
    batch = fixed_batch(clips, model, count, CONTEXT + horizon, seed=1)
    rows = [batch.frames[:, CONTEXT - 1 :].cpu().float() / 255]
    rows += [
        torch.cat([rows[0][:, :1], frames.cpu()], dim=1)
        for frames in imagined(model, batch).values()
    ]
    grid = rearrange(torch.stack(rows, dim=1), "n k t h w c -> (n k h) (t w) c")
    image = Image.fromarray(to_bytes(grid).numpy())
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)


def imagined(model: ColaWorldModel, batch: ClipBatch) -> dict[str, Tensor]:
    """Frames (B, horizon, S, S, 3) in [0, 1] after ``CONTEXT`` true ones, by kind of action."""
    return {
        name: imagine(model, batch, actions, mode)
        for name, (mode, actions) in _actions(model, batch).items()
    }


def imagine(model: ColaWorldModel, batch: ClipBatch, actions: Tensor, mode: str) -> Tensor:
    """Frames (B, horizon, S, S, 3) in [0, 1] under actions (B, horizon, ...) of an action mode,
    behind the first ``CONTEXT`` frames of a batch; from the same noise in every call."""
    shape = (actions.shape[1], *batch.latents[:, 0].shape)
    generator = torch.Generator(model.device).manual_seed(0)
    noise = torch.randn(shape, generator=generator, device=model.device)
    parts = []
    for rows in torch.arange(len(actions), device=model.device).split(AT_ONCE):
        start = model.begin(batch.frames[rows, :CONTEXT], batch.actions[rows, : CONTEXT - 1])
        plans = actions[rows, None]
        parts.append(model.rollout(start, plans, noise=noise[:, rows], action_mode=mode)[:, 0])
    return torch.cat(parts)


def _actions(model: ColaWorldModel, batch: ClipBatch) -> dict[str, tuple[str, Tensor]]:
    """Mode and actions (B, horizon, ...) of every kind that the model takes."""
    real = batch.actions[:, CONTEXT - 1 :]
    if model.config.conditioning == "direct":
        return {"own": ("direct", real)}
    codes = inferred_codes(model, batch.frames)
    return {"own": ("latent", codes[:, CONTEXT - 1 :]), "adapter": ("real", real)}


@torch.no_grad()
def inferred_codes(model: ColaWorldModel, frames: Tensor) -> Tensor:
    """The IDM's codes (B, T - 1, tokens) of videos (B, T, S, S, 3), uint8 or in [0, 1]."""
    with autocast(model.device):
        return model.infer_actions(frames).codes


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
    count: int = 240,
) -> dict[str, dict[str, float]]:
    """Measures of imagined frames 1 to ``horizon`` after ``CONTEXT`` true ones.

    By kind of action as in ``multi_step_psnr``: ``own`` (IDM codes), ``adapter`` (real actions
    through it), and ``copy``, which repeats the last context frame. PSNR in dB, SSIM and LPIPS
    times 100; the ``moving_`` variants look only at pixels that differ from the last context frame.
    FVD needs clips of at least 9 frames; ``clips`` says of how many.

    Raises ColaWorldError when the clips are too short.
    """
    videos, truth, moving = _beside_truth(model, clips, horizon, count)
    return {
        name: measures(frames, truth, moving, networks) | {"clips": float(len(frames))}
        for name, frames in videos.items()
    }


def measures(frames: Tensor, truth: Tensor, moving: Tensor, networks: Networks) -> dict[str, float]:
    """frames, truth (B, T, S, S, 3) in [0, 1]; moving (B, T, S, S) bool."""
    error = (frames - truth).square().mean(-1)
    border = SSIM_WINDOW // 2
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
