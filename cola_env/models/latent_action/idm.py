"""The inverse dynamics model: an ST-Transformer that infers the action between two frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from einops import rearrange
from torch import Tensor, nn

from cola_env.models.transformer import Attention, Checkpointed, TemporalContext, temporal_context


@dataclass(frozen=True)
class IDMConfig:
    """Sizes of the IDM; the paper (B.1) uses width 768, 12 layers, 12 heads, pixels at 224 / 14.

    ``space``: the clip is given as "pixels" or as the autoencoder's "latents".
    ``motion``: each frame is joined with so many times its difference from the frame before, so
    that motion is visible to a small network from its first layer on; 0: it is not. Pixels change
    less than latents: where actions hardly differ at first, the warm-up never tells them apart.
    """

    space: str = "latents"
    in_channels: int = 16
    input_size: int = 8
    patch_size: int = 2
    hidden_size: int = 128
    depth: int = 2
    num_heads: int = 4
    mlp_ratio: float = 2.0
    readout_size: int = 16
    motion: float = 1.0


class IDMBlock(nn.Module):
    """Spatial attention, causal temporal attention, MLP (ST-Transformer, arXiv 2001.02908)."""

    def __init__(self, config: IDMConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.spatial_norm, self.temporal_norm, self.mlp_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.spatial = Attention(dim, config.num_heads)
        self.temporal = Attention(dim, config.num_heads)
        inner = int(dim * config.mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, dim)
        )

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
        x = x + self.spatial(self.spatial_norm(x))[0]
        h = self.temporal(self.temporal_norm(x).transpose(1, 2), time)[0]
        x = x + h.transpose(1, 2)
        return x + self.mlp(self.mlp_norm(x))


class InverseDynamicsModel(Checkpointed):
    """T frames -> T - 1 continuous latent actions; action t sees frames up to t + 1 only."""

    def __init__(self, config: IDMConfig, num_tokens: int, token_size: int) -> None:
        super().__init__()
        self.config = config
        self.token_shape = (num_tokens, token_size)
        dim, grid = config.hidden_size, config.input_size // config.patch_size
        channels = config.in_channels * (2 if config.motion else 1)
        self.embed = nn.Linear(channels * config.patch_size**2, dim)
        self.blocks = nn.ModuleList([IDMBlock(config) for _ in range(config.depth)])
        self.reduce = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.readout_size))
        self.readout = nn.Sequential(
            nn.Linear(grid**2 * config.readout_size, 2 * dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(2 * dim, num_tokens * token_size),
        )
        positions = get_2d_sincos_pos_embed(dim, grid, output_type="pt").float()
        self.register_buffer("pos_embed", positions, persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        """clip (B, T, C, H, W) -> continuous action tokens (B, T - 1, num_tokens, token_size)."""
        if self.config.motion:
            change = self.config.motion * torch.diff(clip, dim=1, prepend=clip[:, :1])
            clip = torch.cat([clip, change], dim=2)
        p = self.config.patch_size
        x = rearrange(clip, "b t c (h p) (w q) -> b t (h w) (c p q)", p=p, q=p)
        x = self.embed(x.to(self.embed.weight.dtype))
        x = x + self.pos_embed.to(x.dtype)
        frames, head_dim = clip.shape[1], self.config.hidden_size // self.config.num_heads
        time = temporal_context(frames, frames, head_dim, clip.device)
        for block in self.blocks:
            x = self.run_block(block, x, time)
        return self.readout(self.reduce(x[:, 1:]).flatten(2)).unflatten(-1, self.token_shape)
