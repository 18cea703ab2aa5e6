"""The adapter: real actions -> latent action codes (CoLA-World, appendix C.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AdapterConfig:
    """The paper's adapter is a 2-layer MLP of the real action that outputs the best code.

    ``blocks``: residual blocks between its two layers. ``frame``: the current latent frame is a
    further input (the same motor command moves the picture differently in different poses).
    ``soft``: the output is the mean code vector under the predicted distribution instead of the
    most likely code. ``convolutions``: channels of the frame and of strided convolutions through
    which it goes first, to ``frame_size`` numbers; frames in pixels need some.
    """

    hidden_size: int = 256
    blocks: int = 2
    frame: bool = True
    soft: bool = True
    frame_size: int = 16 * 8 * 8
    convolutions: tuple[int, ...] = ()


class AdapterBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 4 * dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * dim, dim),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        changed: Tensor = hidden + self.change(hidden)
        return changed


class Adapter(nn.Module):
    def __init__(
        self, config: AdapterConfig, action_dim: int, num_tokens: int, num_codes: int
    ) -> None:
        super().__init__()
        self.config = config
        self.code_shape = (num_tokens, num_codes)
        dim = config.hidden_size
        self.action_in = nn.Linear(action_dim, dim)
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(fine, coarse, 3, stride=2, padding=1), nn.SiLU())
                for fine, coarse in pairwise(config.convolutions)
            )
        )
        self.frame_in = nn.Linear(config.frame_size, dim) if config.frame else None
        self.blocks = nn.Sequential(*(AdapterBlock(dim) for _ in range(config.blocks)))
        self.out = nn.Sequential(
            nn.GELU(approximate="tanh"), nn.Linear(dim, num_tokens * num_codes)
        )

    def forward(self, actions: Tensor, latents: Tensor | None) -> Tensor:
        """actions (..., A) in [-1, 1] -> logits (..., tokens, codes).

        latents (..., C, H, W) of the frames that they start from, needed with ``frame``.
        """
        hidden = self.action_in(actions.to(self.action_in.weight.dtype))
        if self.frame_in is not None:
            assert latents is not None
            seen = self.convolutions(latents.flatten(0, -4)).unflatten(0, latents.shape[:-3])
            hidden = hidden + self.frame_in(seen.flatten(-3))
        return self.out(self.blocks(hidden)).unflatten(-1, self.code_shape)

    def vectors(self, logits: Tensor, codes: Tensor) -> Tensor:
        """logits (..., tokens, K) -> action vectors (..., tokens, D).

        codes: the codebook, (tokens, K, D), or (1, K, D) where one serves all tokens.
        """
        if self.config.soft:
            return torch.einsum("...tk,tkd->...td", logits.softmax(-1).to(codes.dtype), codes)
        return codes[torch.arange(len(codes), device=codes.device), logits.argmax(-1)]

    def codes(self, logits: Tensor) -> Tensor:
        return torch.argmax(logits, dim=-1)
