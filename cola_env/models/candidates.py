"""Candidate futures of dreams: one past, read by all of them, and memory for what they imagine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cola_env.models.attention import (
    KeyValue,
    SharedPast,
    TemporalContext,
    causal_mask,
    rotary_table,
)
from cola_env.models.dream_state import DreamState


@dataclass(frozen=True)
class Candidates:
    """The futures of N candidates of each of B dreams, while they are imagined frame by frame.

    With guidance all rows come twice: first those that are led by their actions, then the same
    futures without. What these do not share with N lies in ``future`` alone.

    Attributes:
        past: keys and values of every temporal layer, (B, S, heads, P, head_dim).
        future: memory for those of the horizon H, (B * N, S, heads, H, head_dim).
        seen: frames that each row has seen before (B * N,) long.
        window: frames that a frame attends to, with itself.
    """

    past: tuple[KeyValue, ...]
    future: tuple[KeyValue, ...]
    seen: Tensor
    window: int

    @classmethod
    def of(
        cls, state: DreamState, samples: int, horizon: int, window: int, guided: bool
    ) -> Candidates:
        times = 2 if guided else 1

        def allocate(x: Tensor) -> Tensor:
            return x.new_zeros(times * samples * len(x), *x.shape[1:3], horizon, x.shape[4])

        return cls(
            tuple(kv.map(lambda x: x.repeat(times, 1, 1, 1, 1)) for kv in state.cache),
            tuple(kv.map(allocate) for kv in state.cache),
            state.seen.repeat_interleave(samples).repeat(times),
            window,
        )

    def led(self) -> Candidates:
        """Of guided rows those that are led by their actions, in the same memory."""

        def first_half(x: Tensor) -> Tensor:
            return x[: len(x) // 2]

        return Candidates(
            tuple(kv.map(first_half) for kv in self.past),
            tuple(kv.map(first_half) for kv in self.future),
            first_half(self.seen),
            self.window,
        )

    def share(self, frame: int) -> None:
        """Let the rows without actions go on from the ``frame`` that their actions have led to."""
        for kv in self.future:
            for x in (kv.key, kv.value):
                led, free = x[:, :, :, frame].chunk(2)
                free.copy_(led)

    def past_of(self, frame: int, count: int = 1) -> tuple[SharedPast, ...]:
        """What every layer attends to at ``count`` frames of the horizon from ``frame`` on."""
        frames = torch.arange(frame, frame + count, device=self.seen.device)
        return tuple(
            SharedPast(past, future, frames)
            for past, future in zip(self.past, self.future, strict=True)
        )

    def time(self, head_dim: int, frame: int, count: int = 1) -> TemporalContext:
        """Positions of those frames and what they may see: their window, but for the padding of
        rows that have seen less than the past holds."""
        known, device = self.past[0].frames, self.seen.device
        queries = torch.arange(frame, frame + count, device=device)
        keys = torch.arange(-known, self.future[0].frames, device=device)
        mask = causal_mask(queries, keys, self.window)
        mask = mask & (keys >= -self.seen[:, None, None])
        rotary = rotary_table(self.seen[:, None] + queries, head_dim)
        return TemporalContext(rotary, mask[:, None, None])

    def caches(self, frames: int) -> tuple[KeyValue, ...]:
        """Keys and values of the last frames of one candidate a dream, at most ``frames``."""
        caches = []
        for past, future in zip(self.past, self.future, strict=True):
            pairs = zip((past.key, past.value), (future.key, future.value), strict=True)
            whole = KeyValue(*(torch.cat(pair, dim=3) for pair in pairs))
            caches.append(whole.between(whole.frames - frames, whole.frames))
        return tuple(caches)
