"""The state of an imagined rollout: the last latent frame and the cached past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from cola_env.models.attention import KeyValue


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
