"""What dreams remember of their past, and while candidates for their future are imagined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from cola_env.models.transformer import (
    KeyValue,
    SharedPast,
    TemporalContext,
    causal_mask,
    rotary_table,
)


@dataclass(frozen=True)
class DreamState:
    """State of B independent dreams; immutable, every operation returns a new one.

    Attributes:
        latents: clean latents of the current frame (B, C, H, W) float32.
        cache: keys and values of the past, one entry per temporal attention layer.
        seen: frames that each dream has seen (B,) long; rows that saw fewer than the cache holds
            have padding at the front.
        codes: latent action codes of the last step (B, tokens) long, None without any.
    """

    latents: Tensor
    cache: tuple[KeyValue, ...]
    seen: Tensor
    codes: Tensor | None = None

    @property
    def batch_size(self) -> int:
        return self.latents.shape[0]

    @property
    def cached(self) -> int:
        """Frames that the cache holds."""
        return self.cache[0].key.shape[3]

    def select(self, index: Tensor | slice) -> DreamState:
        """The dreams that ``index`` (long, bool or slice over B) picks."""
        return self._map(lambda x: x[index])

    def to(self, device: torch.device, dtype: torch.dtype) -> DreamState:
        """This state on a device; for one of another kind keys and values become ``dtype``."""
        moved = self._map(lambda x: x.to(device))
        if self.latents.device.type == device.type:
            return moved
        return replace(moved, cache=tuple(kv.map(lambda x: x.to(dtype)) for kv in moved.cache))

    def put(self, index: Tensor, rows: DreamState) -> DreamState:
        """This state with the dreams at ``index`` (K,) long replaced by the K ``rows``."""
        frames = max(self.cached, rows.cached)
        here, there = self._padded(frames), rows._padded(frames)

        def place(x: Tensor, y: Tensor) -> Tensor:
            return x.index_copy(0, index, y.to(x.dtype))

        codes = here.codes
        if codes is not None:
            new = torch.zeros_like(codes[index]) if there.codes is None else there.codes
            codes = place(codes, new)
        return DreamState(
            place(here.latents, there.latents),
            tuple(
                KeyValue(place(a.key, b.key), place(a.value, b.value))
                for a, b in zip(here.cache, there.cache, strict=True)
            ),
            place(here.seen, there.seen),
            codes,
        )

    @classmethod
    def joined(cls, parts: Sequence[DreamState]) -> DreamState:
        """The dreams of all parts, one part after the other."""
        frames = max(part.cached for part in parts)
        parts = [part._padded(frames) for part in parts]
        codes = [part.codes for part in parts if part.codes is not None]
        return cls(
            torch.cat([part.latents for part in parts]),
            tuple(
                KeyValue(torch.cat([kv.key for kv in layer]), torch.cat([kv.value for kv in layer]))
                for layer in zip(*(part.cache for part in parts), strict=True)
            ),
            torch.cat([part.seen for part in parts]),
            torch.cat(codes) if codes else None,
        )

    def _padded(self, frames: int) -> DreamState:
        missing = frames - self.cached
        cache = tuple(kv.map(lambda x: pad(x, (0, 0, missing, 0))) for kv in self.cache)
        return DreamState(self.latents, cache, self.seen, self.codes)

    def _map(self, function: Callable[[Tensor], Tensor]) -> DreamState:
        return DreamState(
            function(self.latents),
            tuple(kv.map(function) for kv in self.cache),
            function(self.seen),
            None if self.codes is None else function(self.codes),
        )


@dataclass(frozen=True)
class Candidates:
    """The futures of N candidates of each of B dreams, while they are imagined frame by frame.

    With guidance all rows come twice: first the conditional ones, which know their actions, then
    the same futures unconditional. What rows do not share lies in ``future`` alone.

    Attributes:
        past: keys and values of every temporal layer, (B, S, heads, P, head_dim).
        future: memory for those of the horizon H, (B * N, S, heads, H, head_dim).
        seen: frames that each row has seen before (B * N,) long.
        window: frames that a frame attends to, with itself.
        guided: whether there are unconditional rows.
    """

    past: tuple[KeyValue, ...]
    future: tuple[KeyValue, ...]
    seen: Tensor
    window: int
    guided: bool

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
            guided,
        )

    def conditional(self) -> Candidates:
        """The conditional rows alone, in the same memory."""
        if not self.guided:
            return self

        def first_half(x: Tensor) -> Tensor:
            return x[: len(x) // 2]

        return Candidates(
            tuple(kv.map(first_half) for kv in self.past),
            tuple(kv.map(first_half) for kv in self.future),
            first_half(self.seen),
            self.window,
            guided=False,
        )

    def copy_to_unconditional(self, frame: int) -> None:
        """Let the unconditional rows go on from the conditional ones' ``frame``."""
        if not self.guided:
            return
        for kv in self.future:
            for x in (kv.key, kv.value):
                conditional, unconditional = x[:, :, :, frame].chunk(2)
                unconditional.copy_(conditional)

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

    def caches(self) -> tuple[KeyValue, ...]:
        """The past of what follows one candidate a dream: at most ``window - 1`` frames."""
        caches, rows, frames = [], self.conditional(), self.window - 1
        for past, future in zip(rows.past, rows.future, strict=True):
            pairs = zip((past.key, past.value), (future.key, future.value), strict=True)
            whole = KeyValue(*(torch.cat(pair, dim=3) for pair in pairs))
            caches.append(whole.between(whole.frames - frames, whole.frames))
        return tuple(caches)
