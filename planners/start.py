"""Where a search starts from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from planners.bounds import Bounds
from planners.result import PlanResult, shifted
from planners.settings import Settings


def initial_std(settings: Settings, bounds: Bounds) -> Tensor:
    """(H, A)"""
    if settings.std is None:
        if not bounds.finite:
            raise ValueError("the action space is unbounded: give the planner a std")
        return bounds.width * settings.default_std
    horizon, dims = bounds.low.shape
    given = bounds.low.new_tensor(settings.std)
    if given.numel() not in (1, dims):
        raise ValueError(f"std has {given.numel()} values for {dims} action dimensions")
    return given.expand(horizon, dims).contiguous()


def initial_mean(warm_start: Any, bounds: Bounds, batch: int) -> Tensor:
    """(B, H, A)"""
    horizon, dims = bounds.low.shape
    if warm_start is None:
        return bounds.centre.expand(batch, horizon, dims)
    actions = warm_start.actions if isinstance(warm_start, PlanResult) else warm_start
    if not isinstance(actions, Tensor):
        try:
            actions = torch.from_numpy(np.array(actions, np.float32))
        except (TypeError, ValueError):
            raise TypeError(
                "the warm start must be a PlanResult, or numbers (B, h, A), not "
                f"{type(actions).__name__}"
            ) from None
    actions = actions.to(bounds.low.device, torch.float32)
    if actions.ndim != 3 or actions.shape[::2] != (batch, dims) or not actions.shape[1]:
        raise ValueError(
            f"the warm start has shape {tuple(actions.shape)}: it must be (B, h, A) "
            f"= ({batch}, h, {dims}) with at least one step"
        )
    if not bool(actions.isfinite().all()):
        raise ValueError("the warm start contains NaN or infinite actions")
    return bounds.clamp(shifted(actions, 0, horizon))


def initial_elites(warm_start: Any, bounds: Bounds) -> Tensor | None:
    """(B, K, H, A)"""
    elites = warm_start.elites if isinstance(warm_start, PlanResult) else None
    return (
        None if elites is None else bounds.clamp(shifted(elites.to(bounds.low), 0, len(bounds.low)))
    )
