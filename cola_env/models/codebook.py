"""Codebook health: utilisation, maximum usage and entropy over joint codes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean

import torch
from torch import Tensor


@dataclass(frozen=True)
class CodebookHealth:
    """utilisation: share of the joint codes in use; max_usage: share of the most frequent one;
    entropy in nats (at most ln 1024 = 6.93 for the paper's two tokens of 32 codes)."""

    utilisation: float
    max_usage: float
    entropy: float


def joint_index(codes: Tensor, num_codes: int) -> Tensor:
    """codes (..., tokens) -> joint index (...) = i0 * num_codes + i1 for two tokens; 0 for none."""
    index = torch.zeros(codes.shape[:-1], dtype=codes.dtype, device=codes.device)
    for token in codes.unbind(-1):
        index = index * num_codes + token
    return index


def codebook_health(codes: Tensor, num_codes: int) -> CodebookHealth:
    """Health of the codes (N, tokens) of many actions."""
    total = num_codes ** codes.shape[-1]
    counts = torch.bincount(joint_index(codes, num_codes).flatten(), minlength=total).double()
    share = counts / counts.sum()
    used = share[share > 0]
    return CodebookHealth(
        utilisation=len(used) / total,
        max_usage=float(share.max()),
        entropy=float(-(used * used.log()).sum()),
    )


def health_measures(codes: Tensor, num_codes: int, prefix: str = "") -> dict[str, float]:
    """The health of codes (..., tokens) by name; nothing where actions have no codes.

    Beside that of the joint codes, ``token_*`` is the mean over the tokens, each on its own, which
    a few dozen actions suffice for (a token's entropy is at most ln 32 = 3.47).
    """
    if not codes.shape[-1]:
        return {}
    health = asdict(codebook_health(codes.flatten(0, -2), num_codes))
    tokens = [asdict(codebook_health(t.reshape(-1, 1), num_codes)) for t in codes.unbind(-1)]
    health |= {f"token_{name}": fmean(token[name] for token in tokens) for name in list(health)}
    return {f"{prefix}{name}": value for name, value in health.items()}
