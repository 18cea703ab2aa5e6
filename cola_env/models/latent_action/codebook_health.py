"""Codebook health: utilisation, maximum usage and entropy, of joint codes and of every token."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CodebookHealth:
    """utilisation: share of the codes in use; max_usage: share of the most frequent one;
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


def code_counts(codes: Tensor, num_codes: int) -> Tensor:
    """How often each joint code occurs in codes (..., tokens): int64 (num_codes,) * tokens."""
    tokens = codes.shape[-1]
    index = joint_index(codes, num_codes).flatten()
    return torch.bincount(index, minlength=num_codes**tokens).view((num_codes,) * tokens)


def health_of_counts(counts: Tensor) -> CodebookHealth:
    """Health of what was counted so often; counts of any shape, not all zero."""
    share = counts.flatten().double() / counts.sum()
    used = share[share > 0]
    return CodebookHealth(
        utilisation=len(used) / len(share),
        max_usage=float(share.max()),
        entropy=max(0.0, float(-(used * used.log()).sum())),
    )


def count_measures(counts: Tensor, prefix: str = "") -> dict[str, float]:
    """The health of joint codes, counted as by ``code_counts``, and of the codes of each token."""
    parts = {prefix: counts}
    for token in range(counts.ndim):
        others = [axis for axis in range(counts.ndim) if axis != token]
        parts[f"{prefix}token_{token}_"] = counts.sum(others) if others else counts
    return {
        f"{start}{name}": value
        for start, part in parts.items()
        for name, value in asdict(health_of_counts(part)).items()
    }


def health_measures(codes: Tensor, num_codes: int, prefix: str = "") -> dict[str, float]:
    """The health of codes (..., tokens) by name; nothing where actions have no codes."""
    return count_measures(code_counts(codes, num_codes), prefix) if codes.shape[-1] else {}
