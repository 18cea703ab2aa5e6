"""Activation checkpointing of repeated blocks (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Checkpointed(nn.Module):
    """A stack of blocks that recomputes their activations in the backward pass on demand.

    diffusers' ``enable_gradient_checkpointing`` and ``disable_gradient_checkpointing`` of the whole
    model set the two attributes.
    """

    gradient_checkpointing: bool = False
    _gradient_checkpointing_func: Callable[..., Any]

    @property
    def recomputes(self) -> bool:
        return self.gradient_checkpointing and torch.is_grad_enabled()

    def run_block(self, block: nn.Module, *inputs: Any) -> Any:
        """``block(*inputs)``; only the inputs are kept for the backward pass if it recomputes."""
        if self.recomputes:
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)
