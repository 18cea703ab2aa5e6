"""How far a latent action model has moved: the latent actions of the same clips, before and after.

Codes may change their numbers alone, while the same transitions go on to share one: that is undone
by the best renaming. Tokens may turn or grow as a whole, which a linear map takes back at once:
linear CKA does not see it, the distance does.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_train.data.clips import ClipBatch
from cola_train.evaluation.rollout_quality import AT_ONCE

TINY = 1e-12


@dataclass(frozen=True)
class LatentActions:
    """Of N transitions: the tokens as the quantizer compares them with its codes (N, tokens,
    code_size) float64, and their codes (N, tokens) long."""

    tokens: Tensor
    codes: Tensor


@torch.no_grad()
def latent_actions(model: ColaWorldModel, batch: ClipBatch) -> LatentActions:
    """Those of all transitions of an encoded batch."""
    tokens, codes = [], []
    for rows in torch.arange(len(batch.frames), device=model.device).split(AT_ONCE):
        with autocast(model.device):
            found = model.action_tokens(batch.frames[rows], batch.latents[rows])
            codes.append(model.quantizer(found).codes.flatten(0, -2))
        tokens.append(model.quantizer.normalize(found).flatten(0, -3).double())
    return LatentActions(torch.cat(tokens).cpu(), torch.cat(codes).cpu())


@dataclass(frozen=True)
class Drift:
    """What has become of the same transitions.

    Attributes:
        changed: share of the codes that are another number, the mean of the tokens.
        regrouped: the same under the renaming of each token's codes that leaves most as they were.
        chance: ``regrouped`` where the codes after belong to other transitions; 0 for one code.
        reshaped: 1 - linear CKA of the tokens, 0 to 1 (Kornblith et al. 2019, arXiv 1905.00414).
        distance: root mean square distance that the tokens have moved, in units of their spread
            before; sqrt(2) for unrelated tokens of the same spread.
    """

    changed: float
    regrouped: float
    chance: float
    reshaped: float
    distance: float


def latent_drift(before: LatentActions, after: LatentActions) -> Drift:
    """Both are of the same N transitions, N > 1."""
    codes = list(zip(before.codes.unbind(-1), after.codes.unbind(-1), strict=True))
    x, y = before.tokens.flatten(1), after.tokens.flatten(1)
    spread = (x - x.mean(0)).square().sum(1).mean().sqrt()
    moved = (y - x).square().sum(1).mean().sqrt()
    return Drift(
        changed=fmean(float((a != b).double().mean()) for a, b in codes),
        regrouped=fmean(regrouped(a, b) for a, b in codes),
        chance=fmean(regrouped(a, b.roll(len(b) // 2)) for a, b in codes),
        reshaped=max(0.0, 1 - linear_cka(x, y)),
        distance=float(moved / spread.clamp_min(TINY)),
    )


def regrouped(before: Tensor, after: Tensor) -> float:
    """Share of the codes (N,) that differ, whatever the numbers of those after."""
    size = int(torch.maximum(before.max(), after.max())) + 1
    both = torch.bincount(before * size + after, minlength=size**2).view(size, size)
    kept = both[linear_sum_assignment(both.numpy(), maximize=True)].sum()
    return 1 - int(kept) / len(before)


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Of features (N, D) and (N, E) float64 of the same N: 1 where they are the same but for a
    rotation, a scale and a shift, 0 where nothing of the one is linear in the other."""
    x, y = x - x.mean(0), y - y.mean(0)
    shared = (x.T @ y).square().sum()
    return float(shared / ((x.T @ x).norm() * (y.T @ y).norm()).clamp_min(TINY))
