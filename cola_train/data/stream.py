"""Clips of episodes of any length, decoded when they are drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from cola_train.data.action_scale import ActionScale
from cola_train.data.clips import Batch
from cola_train.data.damage import DamagedFile, Ledger, Unreadable
from cola_train.data.episodes import Entry, Episodes, Piece
from cola_train.data.framing import square
from cola_train.progress import progress_bar

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
    damage is that of an episode alone, and what is damaged goes to the ledger. It is tried again
    when it is next drawn, so that what is drawn depends on the generator and the files alone.

    Attributes:
        size: side of the square frames.
        readers: processes that decode ahead.
        scale: of the actions.
        memory: all pieces, decoded (see ``whole``); None: they are decoded on demand.
        latents: float16 (T, C, h, w) of the frames of each piece; None: they are not kept.
    """

    source: Episodes
    pieces: Sequence[Piece]
    size: int
    ledger: Ledger = field(default_factory=Ledger)
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
        return sum(map(len, self.pieces))

    @property
    def num_bytes(self) -> int:
        """Memory that the frames of all pieces would take."""
        return self.num_frames * self.size**2 * 3

    @cached_property
    def action_dim(self) -> int:
        """Of the actions that all episodes have; 0: there are none."""
        dims = {self.entry(piece).action_dim or 0 for piece in self.pieces}
        return dims.pop() if len(dims) == 1 else 0

    @property
    def has_actions(self) -> bool:
        return any(self.entry(piece).action_dim for piece in self.pieces)

    def with_actions(self) -> Stream:
        """The episodes that have actions."""
        return self.keep([i for i, p in enumerate(self.pieces) if self.entry(p).action_dim])

    def first(self, episodes: int) -> Stream:
        return self.keep(list(range(min(episodes, len(self.pieces)))))

    def keep(self, rows: Sequence[int]) -> Stream:
        """The pieces of these numbers."""
        memory = None if self.memory is None else [self.memory[i] for i in rows]
        latents = None if self.latents is None else [self.latents[i] for i in rows]
        return replace(self, pieces=[self.pieces[i] for i in rows], memory=memory, latents=latents)

    def entry(self, piece: Piece) -> Entry:
        return self.source.entries[piece.episode]

    def identity(self) -> str:
        """What the frames depend on: the files, which of their frames, at which size, and how they
        are decoded."""
        files = {self.entry(piece).file for piece in self.pieces}
        stamps = {f: (s.st_size, s.st_mtime_ns) for f in files if (s := _status(f))}
        entries = [(self.entry(piece), piece) for piece in self.pieces]
        return repr([DECODING, self.size, entries, sorted(stamps.items())])

    def num_clips(self, length: int) -> int:
        """How many clips of ``length`` frames there are."""
        return int(self._starts(length).sum())

    def sample(self, count: int, length: int, generator: torch.Generator) -> Batch:
        """``count`` clips of ``length`` frames, all equally likely.

        Raises Unreadable when no clip can be read.
        """
        drawn = [self._draw(length, generator) for _ in range(count)]
        frames, latents, actions = (torch.stack(part) for part in zip(*drawn, strict=True))
        return Batch(frames, latents, actions)

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
        for row in progress_bar(range(len(self.pieces)), f"reading {self.name}", leave=False):
            try:
                memory.append(self.whole(row))
                kept.append(row)
            except DamagedFile as error:
                self.ledger.add(error.file, error.reason)
        if not kept:
            raise Unreadable(f"Nothing in {self.name} can be read: {self.ledger.summary()}")
        return replace(self.keep(kept), memory=memory)

    def whole(self, row: int) -> tuple[Tensor, Tensor]:
        """The frames (T, size, size, 3) uint8 and actions (T - 1, A) of a piece.

        Raises DamagedFile.
        """
        entry, length = self.entry(self.pieces[row]), len(self.pieces[row])
        at_once = max(1, DECODED_BYTES // (entry.height * entry.width * 3))
        parts = [
            self._frames(row, start, min(start + at_once, length))
            for start in range(0, length, at_once)
        ]
        return torch.cat(parts), self._actions(row, 0, length - 1)

    def _frames(self, row: int, start: int, stop: int) -> Tensor:
        if self.memory is not None:
            return self.memory[row][0][start:stop]
        piece = self.pieces[row]
        first, last = ((piece.start + frame) * piece.stride for frame in (start, stop - 1))
        return square(self.source.frames(piece.episode, first, last + 1, piece.stride), self.size)

    def _actions(self, row: int, start: int, stop: int) -> Tensor:
        """The actions between frame ``start`` and frame ``stop`` of a piece: (stop - start, A);
        between two frames, the mean of those that are stored."""
        if self.memory is not None:
            return self.memory[row][1][start:stop]
        piece = self.pieces[row]
        if stop == start or not self.entry(piece).action_dim:
            return torch.zeros(stop - start, 0)
        first, last = ((piece.start + frame) * piece.stride for frame in (start, stop))
        actions = torch.from_numpy(self.scale(self.source.actions(piece.episode, first, last)))
        return actions.unflatten(0, (-1, piece.stride)).mean(1)

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
                self.ledger.add(error.file, error.reason)
                others = [
                    i != row and self.entry(piece).file != error.file
                    for i, piece in enumerate(self.pieces)
                ]
                starts = starts * torch.tensor(others)
        reason = self.ledger.summary() or "its episodes are shorter."
        raise Unreadable(f"No clip of {length} frames of {self.name} can be read: {reason}")

    def _read(self, row: int, start: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        stop = start + length
        frames = self._frames(row, start, stop)
        latents = torch.empty(0) if self.latents is None else self.latents[row][start:stop].float()
        if self.action_dim:
            return frames, latents, self._actions(row, start, stop - 1)
        return frames, latents, torch.zeros(length - 1, 0)

    def _starts(self, length: int) -> Tensor:
        """int64 (pieces,): how many clips of ``length`` frames start in each piece."""
        if length not in self._counts:
            lengths = torch.tensor([len(piece) for piece in self.pieces], dtype=torch.long)
            self._counts[length] = (lengths - length + 1).clamp_min(0)
        return self._counts[length]


def _status(file: str) -> os.stat_result | None:
    return os.stat(file) if os.path.exists(file) else None
