"""Action transfer (CoLA-World, appendix D.2): one video's latent actions drive another's frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import TrainingData


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
    clip: int = 8,
) -> Transfer:
    """Latent actions of ``count`` clips of ``sources`` from the first frames of ``targets``' on."""
    source = sources.sample(count, clip, torch.Generator().manual_seed(0)).frames.to(model.device)
    first = targets.sample(count, clip, torch.Generator().manual_seed(1)).frames[:, :1]
    codes = read_codes(model, source)
    start = model.begin(first)
    future = model.rollout(start, codes[:, None], seed=0, action_mode="latent")[:, 0]
    imagined = torch.cat([first.to(future) / 255, future], dim=1)
    again = read_codes(model, imagined)
    return Transfer(
        source.cpu().float() / 255,
        imagined.cpu(),
        same=float((again == codes).float().mean()),
        other=float((again == codes.roll(1, 0)).float().mean()),
    )


@torch.no_grad()
def read_codes(model: ColaWorldModel, frames: Tensor) -> Tensor:
    """The IDM's codes (B, T - 1, tokens) of clips (B, T, S, S, 3), uint8 or in [0, 1]."""
    with autocast(model.device):
        return model.infer_actions(frames).codes
