"""Parts of Transformers: self-attention as in Open-Sora's STDiT3, made causal and cacheable in
time, a block around it, and stacks of blocks that recompute their activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from cola_env.models.past import KeyValue, SharedPast, TemporalContext


class RMSNorm(nn.RMSNorm):
    """RMS normalisation that stays in the precision of its input under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = (part.to(x.dtype) for part in table)
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cos + swapped * sin


class Attention(nn.Module):
    """Multi-head self-attention with RMS-normalised queries and keys.

    Parameter names follow Open-Sora (``qkv``, ``proj``, ``q_norm``, ``k_norm``). The last but one
    axis is the sequence: tokens of a frame (spatial) or frames of a token (temporal).
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = RMSNorm(dim // num_heads, eps=1e-6)
        self.k_norm = RMSNorm(dim // num_heads, eps=1e-6)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        time: TemporalContext | None = None,
        past: SharedPast | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """x (B, S, L, D) -> the same shape, and the keys and values that later frames attend to.

        With ``time`` L are frames (rotary positions, causal); without, the tokens of a frame.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        q, k = self.q_norm(q), self.k_norm(k)
        if time is not None:
            q, k = rotate(q, time.rotary), rotate(k, time.rotary)
        mask = time.mask if time else None
        if past is None:
            out = attend(q, k, v, mask)
        else:
            assert mask is not None
            out = past.attend(q, k, v, mask)
        return self.proj(out.transpose(2, 3).flatten(-2)), KeyValue(k, v)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention over the last but one axis, (B, S, heads, L, head_dim) each.

    On a CPU written out, as its kernel is slow on tiny sequences; elsewhere by diffusers' dispatch.
    """
    if q.device.type != "cpu":
        return dispatched_attention(q, k, v, mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).to(v.dtype) @ v


def dispatched_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """``attend`` by the kernel that ``set_attention_backend`` of the model chose.

    Most fast kernels know no masks, so masked attention (few keys: the frames of a clip) stays with
    torch's own. It is given 4 axes always: diffusers takes 2 for padding, (rows, keys).
    """
    rows = q.shape[:2]
    q, k, v = (x.flatten(0, 1).transpose(1, 2) for x in (q, k, v))
    if mask is not None:
        shared = mask.ndim == 2
        mask = mask[None, None] if shared else mask.expand(*rows, -1, -1, -1).flatten(0, 1)
    backend = None if mask is None else "native"
    out = dispatch_attention_fn(q, k, v, attn_mask=mask, backend=backend)
    return out.transpose(1, 2).unflatten(0, rows)


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


class Checkpointed(nn.Module):
    """A stack of blocks that recomputes their activations in the backward pass on demand (Chen
    et al., arXiv 1604.06174).

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
