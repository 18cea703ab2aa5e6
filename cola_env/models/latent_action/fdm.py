"""The forward dynamics model of the two-stage baseline: frame and latent action -> next frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from einops import rearrange
from torch import Tensor, nn

from cola_env.models.transformer import Checkpointed, TransformerBlock


@dataclass(frozen=True)
class FDMConfig:
    """Sizes of the FDM; the paper (B.1) uses width 768, 12 layers, 12 heads, pixels at 224 / 14.

    ``residual``: it predicts the change from the given frame (our mini model), else the frame.
    """

    image_size: int = 64
    patch_size: int = 8
    hidden_size: int = 128
    depth: int = 4
    num_heads: int = 4
    mlp_ratio: float = 4.0
    residual: bool = True


class ForwardDynamicsModel(Checkpointed):
    """A spatial Transformer over the patches of one frame and the tokens of one latent action.

    Source: CoLA-World, appendix B.1. Joint training has no FDM: the world model takes its place.
    """

    def __init__(self, config: FDMConfig, token_size: int) -> None:
        super().__init__()
        self.config = config
        dim, grid = config.hidden_size, config.image_size // config.patch_size
        self.patch_in = nn.Linear(3 * config.patch_size**2, dim)
        self.action_in = nn.Linear(token_size, dim)
        self.blocks = nn.ModuleList(
            [TransformerBlock(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)]
        )
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3 * config.patch_size**2))
        positions = get_2d_sincos_pos_embed(dim, grid, output_type="pt").float()
        self.register_buffer("pos_embed", positions, persistent=False)

    def forward(self, frames: Tensor, actions: Tensor) -> Tensor:
        """Frames (B, T, S, S, 3) in [0, 1] and action tokens (B, T, tokens, token_size) that leave
        from them -> the next frames (B, T, S, S, 3)."""
        p = self.config.patch_size
        patches = rearrange(frames, "b t (h p) (w q) c -> b t (h w) (p q c)", p=p, q=p)
        dtype = self.patch_in.weight.dtype
        x, tokens = self.patch_in(patches.to(dtype)), self.action_in(actions.to(dtype))
        x = torch.cat([x + self.pos_embed.to(x.dtype), tokens.to(x.dtype)], dim=2)
        for block in self.blocks:
            x, _ = self.run_block(block, x)
        out = self.out(x[:, :, : patches.shape[2]]).float()
        if self.config.residual:
            out = out + patches
        side = self.config.image_size // p
        return rearrange(out, "b t (h w) (p q c) -> b t (h p) (w q) c", h=side, p=p, q=p)
