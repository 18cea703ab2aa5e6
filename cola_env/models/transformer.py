"""A plain pre-norm Transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from cola_env.models.attention import Attention, KeyValue, SharedPast, TemporalContext


class TransformerBlock(nn.Module):
    """Self-attention and an MLP: over frames, causal and cacheable, with a ``time``; else over all
    tokens of the last but one axis."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        inner = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, dim)
        )

    def forward(
        self, x: Tensor, time: TemporalContext | None = None, past: SharedPast | None = None
    ) -> tuple[Tensor, KeyValue]:
        """x (B, S, L, D) -> the same shape, and the cache that the next frames attend to."""
        out, kept = self.attn(self.norm1(x), time, past)
        x = x + out
        return x + self.mlp(self.norm2(x)), kept
