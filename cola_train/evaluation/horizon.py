"""How far imagination can be trusted: PSNR by the step of a rollout."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import Batch, TrainingData
from cola_train.data.mixture import check_length
from cola_train.evaluation.pixels import moving_pixels, psnr

CONTEXT = 2
"""True frames that imagination begins behind."""

AT_ONCE = 32
"""Clips that are imagined together, which bounds the memory."""


def multi_step_psnr(
    model: ColaWorldModel,
    clips: TrainingData,
    horizon: int = 10,
    context: int = CONTEXT,
    count: int = 128,
    clip: int = 8,
) -> dict[str, list[float]]:
    """PSNR (dB) of imagined frames 1 to ``horizon`` after ``context`` true ones.

    Measured where the true frame differs from the last context frame. ``copy`` repeats that frame;
    ``own`` acts by the IDM's codes of the true clip (a "direct" model: by its real actions), and
    ``adapter`` by the real actions through the adapter. ``clip`` is the training length, which the
    IDM is not shown more of.

    Raises ColaWorldError when the clips are too short.
    """
    check_length(clips, context + horizon)
    batch = clips.sample(count, context + horizon, torch.Generator().manual_seed(0))
    batch = batch.to(model.device).encoded(model)
    truth = batch.frames.float() / 255
    last, future = truth[:, context - 1 : context], truth[:, context:]
    moving = moving_pixels(last, future)

    def score(frames: Tensor) -> list[float]:
        error = (frames - future).square().mean(-1)
        steps = range(horizon)
        return [float(psnr(error[:, t][moving[:, t]].mean())) for t in steps]

    results = {"copy": score(last.expand_as(future))}
    for name, frames in imagined(model, batch, context, clip).items():
        results[name] = score(frames)
    return results


def rollout_picture(
    model: ColaWorldModel,
    clips: TrainingData,
    path: Path,
    horizon: int = 10,
    context: int = CONTEXT,
    count: int = 4,
    clip: int = 8,
) -> None:
    """A PNG of ``count`` held-out clips: the true frames above what is imagined of them.

    Raises ColaWorldError when the clips are too short.
    """
    check_length(clips, context + horizon)
    batch = clips.sample(count, context + horizon, torch.Generator().manual_seed(1))
    rows = [batch.frames[:, context - 1 :].float() / 255]
    rows += [
        torch.cat([rows[0][:, :1], frames.cpu()], dim=1)
        for frames in imagined(model, batch.to(model.device).encoded(model), context, clip).values()
    ]
    grid = rearrange(torch.stack(rows, dim=1), "n k t h w c -> (n k h) (t w) c")
    image = Image.fromarray((grid * 255).round().to(torch.uint8).numpy())
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)


def imagined(model: ColaWorldModel, batch: Batch, context: int, clip: int) -> dict[str, Tensor]:
    """Frames (B, horizon, S, S, 3) in [0, 1] after ``context`` true ones, by kind of action."""
    results = {}
    for name, (mode, actions) in _actions(model, batch, context, clip).items():
        shape = (actions.shape[1], *batch.latents[:, 0].shape)
        generator = torch.Generator(model.device).manual_seed(0)
        noise = torch.randn(shape, generator=generator, device=model.device)
        parts = []
        for rows in torch.arange(len(actions), device=model.device).split(AT_ONCE):
            start = model.begin(batch.frames[rows, :context], batch.actions[rows, : context - 1])
            plans = actions[rows, None]
            parts.append(model.rollout(start, plans, noise=noise[:, rows], action_mode=mode)[:, 0])
        results[name] = torch.cat(parts)
    return results


def _actions(
    model: ColaWorldModel, batch: Batch, context: int, clip: int
) -> dict[str, tuple[str, Tensor]]:
    """Mode and actions (B, horizon, ...) of every kind that the model takes."""
    real = batch.actions[:, context - 1 :]
    if model.config.conditioning == "direct":
        return {"own": ("direct", real)}
    codes = inferred_codes(model, batch.frames, batch.latents, clip)
    return {"own": ("latent", codes[:, context - 1 :]), "adapter": ("real", real)}


@torch.no_grad()
def inferred_codes(model: ColaWorldModel, frames: Tensor, latents: Tensor, clip: int) -> Tensor:
    """Codes (B, T - 1, tokens) of a long video, each from the ``clip`` frames that end with it."""
    codes = []
    for end in range(2, frames.shape[1] + 1):
        window = slice(max(0, end - clip), end)
        with autocast(model.device):
            tokens = model.action_tokens(frames[:, window], latents[:, window])
            codes.append(model.quantizer(tokens[:, -1:]).codes)
    return torch.cat(codes, dim=1)
