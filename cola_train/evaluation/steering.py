"""What latent actions do: a clip imagined under its own and another's, every code by hand.

And action transfer (CoLA-World, appendix D.2): one video's latent actions drive another's frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.envs.starts import CONTEXT
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import ClipBatch, TrainingData
from cola_train.data.mixture import check_length
from cola_train.evaluation.rollout_quality import inferred_codes

POOL = 8
"""Clips that each one that is shown is chosen from."""


@dataclass(frozen=True)
class Steered:
    """Clips (B, T, S, S, 3) in [0, 1] that begin with the same true frame.

    Attributes:
        true: as they went on.
        own: imagined under the codes that the IDM reads off the true clip.
        other: imagined under those of the next clip (of the first, after the last).
        context: (B, C, S, S, 3) uint8, the true frames up to the first of them.
    """

    true: Tensor
    own: Tensor
    other: Tensor
    context: Tensor


def steer(model: ColaWorldModel, clips: TrainingData, count: int, horizon: int) -> Steered:
    """``count`` clips that look different, of ``horizon`` imagined frames after ``CONTEXT`` true
    ones.

    Raises ColaWorldError when the clips are too short.
    """
    check_length(clips, CONTEXT + horizon)
    batch = clips.sample(POOL * count, CONTEXT + horizon, torch.Generator().manual_seed(1))
    rows = unlike(batch.frames[:, 0], count)
    batch = ClipBatch(*(part[rows] for part in (batch.frames, batch.latents, batch.actions)))
    batch = batch.to(model.device).encoded(model)
    codes = inferred_codes(model, batch.frames)[:, CONTEXT - 1 :]
    past = batch.frames[:, :CONTEXT]
    candidates = torch.stack([codes, codes.roll(-1, 0)], dim=1)
    future = model.rollout(model.begin(past), candidates, seed=0, action_mode="latent")
    true = batch.frames[:, CONTEXT - 1 :].float() / 255
    own, other = (torch.cat([true[:, :1], imagined], dim=1) for imagined in future.unbind(1))
    return Steered(true.cpu(), own.cpu(), other.cpu(), past.cpu())


def unlike(pictures: Tensor, count: int) -> list[int]:
    """Rows of ``count`` of the pictures (N, S, S, 3): the first, then the one that is least like
    those before, and so on."""
    flat, rows = pictures.flatten(1).float(), [0]
    while len(rows) < count:
        rows.append(int(torch.cdist(flat, flat[rows]).amin(1).argmax()))
    return rows


@dataclass(frozen=True)
class Held:
    """What follows when one token's code is held for some steps.

    Attributes:
        codes: K codes of the token, the most frequent first.
        shares: how often the IDM uses them.
        frames: (B, K, T, S, S, 3) in [0, 1], from the present frame on.
    """

    codes: list[int]
    shares: list[float]
    frames: Tensor


def hold_codes(
    model: ColaWorldModel, context: Tensor, codes: Tensor, steps: int, most: int
) -> list[Held]:
    """For each token, its ``most`` frequent ``codes`` (..., tokens), held for ``steps`` steps from
    each of the starts ``context`` (B, C, S, S, 3) uint8 on; the other tokens hold their most
    frequent one."""
    state, size = model.begin(context), model.quantizer.config.num_codes
    counts = [torch.bincount(c, minlength=size) for c in codes.flatten(0, -2).unbind(-1)]
    usual = torch.stack([count.argmax() for count in counts])
    present = context[:, None, -1:].float() / 255
    held = []
    for token, count in enumerate(counts):
        ranked = count.argsort(descending=True, stable=True)[:most]
        chosen = ranked[count[ranked] > 0]
        actions = usual.repeat(len(chosen), 1)
        actions[:, token] = chosen
        actions = actions[None, :, None].expand(len(context), -1, steps, -1)
        future = model.rollout(state, actions, seed=0, action_mode="latent").cpu()
        frames = torch.cat([present.expand(-1, len(chosen), -1, -1, -1, -1), future], dim=2)
        shares = (count[chosen] / count.sum()).tolist()
        held.append(Held(chosen.tolist(), shares, frames))
    return held


@dataclass(frozen=True)
class Transfer:
    """source, imagined (B, T, S, S, 3) in [0, 1]: the imagined video starts with another first
    frame. ``same``: share of the source's codes that the IDM reads off the imagined video again;
    ``other``: the same against the codes of another source, what chance would give."""

    source: Tensor
    imagined: Tensor
    same: float
    other: float


def action_transfer(
    model: ColaWorldModel,
    sources: TrainingData,
    targets: TrainingData,
    count: int = 64,
    *,
    clip: int,
) -> Transfer:
    """Latent actions of ``count`` clips of ``sources`` from the first frames of ``targets``' on."""
    source = sources.sample(count, clip, torch.Generator().manual_seed(0)).frames.to(model.device)
    first = targets.sample(count, clip, torch.Generator().manual_seed(1)).frames[:, :1]
    codes = inferred_codes(model, source)
    start = model.begin(first)
    future = model.rollout(start, codes[:, None], seed=0, action_mode="latent")[:, 0]
    imagined = torch.cat([first.to(future) / 255, future], dim=1)
    again = inferred_codes(model, imagined)
    return Transfer(
        source.cpu().float() / 255,
        imagined.cpu(),
        same=float((again == codes).float().mean()),
        other=float((again == codes.roll(1, 0)).float().mean()),
    )
