"""Parts of Transformers: self-attention as in Open-Sora's STDiT3, made causal in time with a cache,
a block around it, and stacks of blocks that recompute their activations.

The past that a frame attends to is cached by a dream and shared by its candidate futures, each
frame at its position and under a causal mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn


@dataclass(frozen=True)
class KeyValue:
    """Keys (already rotated) and values of past frames, each (B, S, heads, past, head_dim)."""

    key: Tensor
    value: Tensor

    @property
    def frames(self) -> int:
        return self.key.shape[3]

    def between(self, start: int, stop: int) -> KeyValue:
        """The frames from ``start`` to before ``stop``, as views."""
        return self.map(lambda x: x[:, :, :, max(start, 0) : stop])

    def map(self, function: Callable[[Tensor], Tensor]) -> KeyValue:
        return KeyValue(function(self.key), function(self.value))


@dataclass(frozen=True)
class SharedPast:
    """The past of B problems and, behind it, the future that N candidates of each imagine.

    Keys and values of the past are kept once per problem: its candidates attend to them side by
    side, as so many queries. Those of the future lie in memory for the whole horizon, and a mask
    hides what is not imagined yet: shapes stay the same from frame to frame, so that one compiled
    graph serves all of them.

    Attributes:
        past: (B, S, heads, P, head_dim).
        future: (B * N, S, heads, H, head_dim), finite everywhere.
        frames: of the horizon, those being computed (T,) long.
    """

    past: KeyValue
    future: KeyValue
    frames: Tensor

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Attention (B * N, S, heads, T, head_dim) of the T frames; keeps their k and v.

        mask: broadcastable to (B * N, S, heads, T, P + H), True = may attend.
        """
        count, past, future = q.shape[3], self.past, self.future
        future.key.index_copy_(3, self.frames, k.to(future.key.dtype))
        future.value.index_copy_(3, self.frames, v.to(future.value.dtype))
        q = q * q.shape[-1] ** -0.5
        to_past = self._apart(self._side_by_side(q) @ past.key.transpose(-1, -2), count)
        to_future = q @ future.key.transpose(-1, -2)
        scores = torch.cat([to_past, to_future], dim=-1).masked_fill(~mask, float("-inf"))
        weights = scores.softmax(-1).to(v.dtype)
        of_past, of_future = weights.split([past.frames, future.frames], dim=-1)
        out = self._apart(self._side_by_side(of_past) @ past.value, count)
        return out + of_future @ future.value

    def _side_by_side(self, x: Tensor) -> Tensor:
        """(B * N, S, heads, T, D) -> (B, S, heads, N * T, D)."""
        return x.unflatten(0, (self.past.key.shape[0], -1)).movedim(1, 3).flatten(3, 4)

    def _apart(self, x: Tensor, frames: int) -> Tensor:
        """(B, S, heads, N * T, D) -> (B * N, S, heads, T, D)."""
        return x.unflatten(3, (-1, frames)).movedim(3, 1).flatten(0, 1)


@dataclass(frozen=True)
class TemporalContext:
    """What every temporal attention of one evaluation shares.

    rotary: cosines and sines, each (B, 1, 1, T, head_dim). mask: broadcastable to
    (B, S, heads, T, keys), True = may attend; None: all may.
    """

    rotary: tuple[Tensor, Tensor]
    mask: Tensor | None


def temporal_context(
    frames: int, window: int, head_dim: int, device: torch.device
) -> TemporalContext:
    """The context of a fresh clip of ``frames``."""
    positions = torch.arange(frames, device=device)
    mask = causal_mask(positions, positions, window) if frames > 1 else None
    return TemporalContext(rotary_table(positions[None], head_dim), mask)


def rotary_frequencies(head_dim: int, device: torch.device | None = None) -> Tensor:
    """Angle of every pair from one frame to the next, (head_dim / 2,) float32."""
    pairs = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32)
    return 10000.0 ** (-pairs / head_dim)


def rotary_table(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of 1D rotary embeddings (RoFormer, arXiv 2104.09864, eq. 34).

    positions (B, T) frame indices -> two tensors (B, 1, 1, T, head_dim) for interleaved pairs; the
    sines carry the sign of the rotation.
    """
    frequencies = rotary_frequencies(head_dim, positions.device)
    angles = positions.float()[:, None, None, :, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([cos, cos], -1).flatten(-2), torch.stack([-sin, sin], -1).flatten(-2)


def causal_mask(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """(Q, K) bool of frame numbers (Q,) and (K,): whether a query may attend to a key, which is
    itself or one of the ``window - 1`` frames before it."""
    ago = queries[:, None] - keys
    return (ago >= 0) & (ago < window)


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
