"""Inference precision: bfloat16 where the hardware computes it fast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def fast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 on CUDA and on CPUs with bfloat16 instructions, else None (float32)."""
    if device.type == "cuda":
        return torch.bfloat16
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return None


def autocast(device: torch.device) -> torch.autocast:
    """The autocast context that training and inference run under on ``device``; none on "meta"."""
    dtype, kind = fast_dtype(device), "cpu" if device.type == "meta" else device.type
    return torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def inference(method: Callable[..., Result]) -> Callable[..., Result]:
    """A method of a module, run without gradients and in the fast precision of its device."""

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Result:
        with torch.no_grad(), autocast(self.device):
            return method(self, *args, **kwargs)

    return wrapped
