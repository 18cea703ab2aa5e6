"""Clips of episodes of any length, decoded when they are drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from cola_train.console import progress_bar
from cola_train.data.action_scale import ActionScale
from cola_train.data.clips import ClipBatch
from cola_train.data.episode_source import (
    DamagedFile,
    DamageReport,
    Entry,
    EpisodeSource,
    Span,
    Unreadable,
)
from cola_train.data.video import square

STILLS_A_CLIP = 4
"""Single frames are drawn in short clips, which decode as fast as one frame."""
DECODING = 1
"""To be raised when the same files come to give other frames: latents kept of them are then old."""

DECODED_BYTES = 2**28
"""Of an episode that is read whole, so much is decoded before it is resized."""


@dataclass(frozen=True)
class Stream:
    """The clips of a source.

    A clip that cannot be read is replaced by one of another file, or of another episode where the
    damage is that of an episode alone, and what is damaged goes to ``damage_report``. It is tried
    again when it is next drawn, so that what is drawn depends on the generator and the files alone.

    Attributes:
        size: side of the square frames.
        readers: processes that decode ahead.
        scale: of the actions.
        memory: all spans, decoded (see ``whole``); None: they are decoded on demand.
        latents: float16 (T, C, h, w) of the frames of each span; None: they are not kept.
    """

    source: EpisodeSource
    spans: Sequence[Span]
    size: int
    damage_report: DamageReport = field(default_factory=DamageReport)
    readers: int = 0
    scale: ActionScale = ActionScale()
    memory: Sequence[tuple[Tensor, Tensor]] | None = None
    latents: Sequence[Tensor] | None = None
    _counts: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        return str(self.source.path)

    @property
    def workers(self) -> int:
        return self.readers if self.memory is None else 0

    @property
    def num_frames(self) -> int:
        return sum(map(len, self.spans))

    @property
    def num_bytes(self) -> int:
        """Memory that the frames of all spans would take."""
        return self.num_frames * self.size**2 * 3

    @cached_property
    def action_dim(self) -> int:
        """Of the actions that all episodes have; 0: there are none."""
        dims = {self.entry(span).action_dim or 0 for span in self.spans}
        return dims.pop() if len(dims) == 1 else 0

    @property
    def has_actions(self) -> bool:
        return any(self.entry(span).action_dim for span in self.spans)

    def with_actions(self) -> Stream:
        """The episodes that have actions."""
        return self.select([i for i, p in enumerate(self.spans) if self.entry(p).action_dim])

    def first(self, episodes: int) -> Stream:
        return self.select(list(range(min(episodes, len(self.spans)))))

    def select(self, rows: Sequence[int]) -> Stream:
        """The spans of these numbers."""
        memory = None if self.memory is None else [self.memory[i] for i in rows]
        latents = None if self.latents is None else [self.latents[i] for i in rows]
        return replace(self, spans=[self.spans[i] for i in rows], memory=memory, latents=latents)

    def entry(self, span: Span) -> Entry:
        return self.source.entries[span.episode]

    def identity(self) -> str:
        """What the frames depend on: the files, which of their frames, at which size, and how they
        are decoded."""
        files = {file for span in self.spans if os.path.exists(file := self.entry(span).file)}
        stamps = {f: (s.st_size, s.st_mtime_ns) for f in files for s in [os.stat(f)]}
        entries = [(self.entry(span), span) for span in self.spans]
        return repr([DECODING, self.size, entries, sorted(stamps.items())])

    def num_clips(self, length: int) -> int:
        """How many clips of ``length`` frames there are."""
        return int(self._starts(length).sum())

    def sample(self, count: int, length: int, generator: torch.Generator) -> ClipBatch:
        """``count`` clips of ``length`` frames, all equally likely.

        Raises Unreadable when no clip can be read.
        """
        drawn = [self._draw(length, generator) for _ in range(count)]
        frames, latents, actions = (torch.stack(part) for part in zip(*drawn, strict=True))
        return ClipBatch(frames, latents, actions)

    def sample_frames(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` single frames (count, S, S, 3) uint8, neighbours in short clips."""
        length = STILLS_A_CLIP if self.num_clips(STILLS_A_CLIP) else 1
        clips = self.sample(-(-count // length), length, generator)
        return clips.frames.flatten(0, 1)[:count]

    def loaded(self) -> Stream:
        """The same clips with all frames in memory; damaged files are left out.

        Raises Unreadable when all are damaged.
        """
        kept, memory = [], []
        for row in progress_bar(range(len(self.spans)), f"reading {self.name}", leave=False):
            try:
                memory.append(self.whole(row))
                kept.append(row)
            except DamagedFile as error:
                self.damage_report.add(error.file, error.reason)
        if not kept:
            raise Unreadable(f"Nothing in {self.name} can be read: {self.damage_report.summary()}")
        return replace(self.select(kept), memory=memory)

    def whole(self, row: int) -> tuple[Tensor, Tensor]:
        """The frames (T, size, size, 3) uint8 and actions (T - 1, A) of a span.

        Raises DamagedFile.
        """
        entry, length = self.entry(self.spans[row]), len(self.spans[row])
        at_once = max(1, DECODED_BYTES // (entry.height * entry.width * 3))
        parts = [
            self._frames(row, start, min(start + at_once, length))
            for start in range(0, length, at_once)
        ]
        return torch.cat(parts), self._actions(row, 0, length - 1)

    def _frames(self, row: int, start: int, stop: int) -> Tensor:
        if self.memory is not None:
            return self.memory[row][0][start:stop]
        span = self.spans[row]
        first, last = ((span.start + frame) * span.stride for frame in (start, stop - 1))
        return square(self.source.frames(span.episode, first, last + 1, span.stride), self.size)

    def _actions(self, row: int, start: int, stop: int) -> Tensor:
        """The actions between frame ``start`` and frame ``stop`` of a span: (stop - start, A);
        between two frames, the mean of those that are stored."""
        if self.memory is not None:
            return self.memory[row][1][start:stop]
        span = self.spans[row]
        if stop == start or not self.entry(span).action_dim:
            return torch.zeros(stop - start, 0)
        first, last = ((span.start + frame) * span.stride for frame in (start, stop))
        actions = torch.from_numpy(self.scale(self.source.actions(span.episode, first, last)))
        return actions.unflatten(0, (-1, span.stride)).mean(1)

    def _draw(self, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        starts = self._starts(length)
        while (total := int(starts.sum())) > 0:
            ends = starts.cumsum(0)
            pick = torch.randint(total, (1,), generator=generator)
            row = int(torch.searchsorted(ends, pick, right=True))
            start = int(pick - ends[row] + starts[row])
            try:
                return self._read(row, start, length)
            except DamagedFile as error:
                self.damage_report.add(error.file, error.reason)
                others = [
                    i != row and self.entry(span).file != error.file
                    for i, span in enumerate(self.spans)
                ]
                starts = starts * torch.tensor(others)
        reason = self.damage_report.summary() or "its episodes are shorter."
        raise Unreadable(f"No clip of {length} frames of {self.name} can be read: {reason}")

    def _read(self, row: int, start: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        stop = start + length
        frames = self._frames(row, start, stop)
        latents = torch.empty(0) if self.latents is None else self.latents[row][start:stop].float()
        if self.action_dim:
            return frames, latents, self._actions(row, start, stop - 1)
        return frames, latents, torch.zeros(length - 1, 0)

    def _starts(self, length: int) -> Tensor:
        """int64 (spans,): how many clips of ``length`` frames start in each span."""
        if length not in self._counts:
            lengths = torch.tensor([len(span) for span in self.spans], dtype=torch.long)
            self._counts[length] = (lengths - length + 1).clamp_min(0)
        return self._counts[length]
