"""Self-attention as in Open-Sora's STDiT3, made causal and cacheable in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    side, as so many queries. Those of the future are views of memory that was allocated once.

    Attributes:
        past: (B, S, heads, P, head_dim).
        future: (B * N, S, heads, L, head_dim), of which the last frames are those being computed.
    """

    past: KeyValue
    future: KeyValue

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attention (B * N, S, heads, T, head_dim) of the T last frames; keeps their k and v.

        mask: broadcastable to (B * N, S, heads, T, P + L), True = may attend.
        """
        frames, past = q.shape[3], self.past
        self.future.key[:, :, :, -frames:] = k
        self.future.value[:, :, :, -frames:] = v
        q = q * q.shape[-1] ** -0.5
        to_past = self._apart(self._side_by_side(q) @ past.key.transpose(-1, -2), frames)
        to_future = q @ self.future.key.transpose(-1, -2)
        scores = torch.cat([to_past, to_future], dim=-1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        weights = scores.softmax(-1).to(v.dtype)
        of_past, of_future = weights.split([past.frames, self.future.frames], dim=-1)
        out = self._apart(self._side_by_side(of_past) @ past.value, frames)
        return out + of_future @ self.future.value

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
    (B, S, heads, T, past + T), True = may attend. window: frames a frame attends to, with itself.
    """

    rotary: tuple[Tensor, Tensor]
    mask: Tensor | None
    window: int


def temporal_context(
    frames: int, seen: Tensor, cached: int, window: int, head_dim: int
) -> TemporalContext:
    """The context of ``frames`` new frames behind ``cached`` ones.

    ``seen`` (B,) counts the frames each row has seen; rows that saw fewer than ``cached`` have
    padding at the front of their cache, which is masked.
    """
    positions = seen[:, None] + torch.arange(frames, device=seen.device)
    mask = causal_mask(frames, cached + frames, window, seen.device)
    if cached and bool((seen < cached).any()):
        slot = torch.arange(cached + frames, device=seen.device)
        valid = (slot >= cached - seen[:, None])[:, None, None, None]
        mask = valid if mask is None else valid & mask
    return TemporalContext(rotary_table(positions, head_dim), mask, window)


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


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = (part.to(x.dtype) for part in table)
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cos + swapped * sin


def causal_mask(queries: int, keys: int, window: int, device: torch.device) -> Tensor | None:
    """(queries, keys) bool, True = may attend: itself and the ``window - 1`` frames before it."""
    if queries == 1 and keys <= window:
        return None
    query = torch.arange(keys - queries, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)[None]
    return (key <= query) & (key > query - window)


class RMSNorm(nn.RMSNorm):
    """RMS normalisation that stays in the precision of its input under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


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
        out = attend(q, k, v, mask) if past is None else past.attend(q, k, v, mask)
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
    torch's own.
    """
    rows = q.shape[:2]
    q, k, v = (x.flatten(0, 1).transpose(1, 2) for x in (q, k, v))
    if mask is not None and mask.ndim > 2:
        mask = mask.expand(*rows, -1, -1, -1).flatten(0, 1)
    backend = None if mask is None else "native"
    out = dispatch_attention_fn(q, k, v, attn_mask=mask, backend=backend)
    return out.transpose(1, 2).unflatten(0, rows)
