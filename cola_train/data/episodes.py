"""What every kind of training data offers: episodes of frames, some with actions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.damage import DamagedFile
from cola_train.data.video import Frames

Extremes = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Entry:
    """One episode as its metadata tell of it, without decoding a frame.

    Attributes:
        file: the file that is named when the frames cannot be read.
        key: which episode of the file, "" where the file is one episode.
        frames, fps, height, width: of the video as it is stored.
        action_dim: size of an action; None: no actions.
        split: "train" or "test" where the data set says so.
        rendering: profile of simulated frames, see ``cola_env.simulators.rendering``.
        camera: whose frames they are, where the file may hold those of several.
        damage: why they cannot be read; a source leaves out an episode that has any.
    """

    file: str
    key: str
    frames: int
    fps: float
    height: int
    width: int
    action_dim: int | None = None
    split: str | None = None
    rendering: str | None = None
    camera: str = ""
    damage: str = ""

    def stride(self, fps: float | None) -> int:
        """Stored frames from one frame to the next at ``fps``: the nearest whole number, or 1."""
        return 1 if fps is None else max(1, round(self.fps / fps))


class Episodes(Protocol):
    """A source of training data; frame t of an episode is before its action t."""

    path: Path

    @property
    def entries(self) -> Sequence[Entry]: ...

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        """Frames start, start + stride, ... before stop, uint8 RGB (n, H, W, 3).

        Raises DamagedFile when they cannot be read.
        """
        ...

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        """Actions (stop - start, A) of an episode whose entry has an ``action_dim``.

        Raises DamagedFile when they cannot be read.
        """
        ...

    def action_extremes(self) -> Extremes | None:
        """The least and the greatest value of each component (A,) of all actions; None without."""
        ...


def read_extremes(source: Episodes) -> Extremes | None:
    """``action_extremes`` of all actions that can be read."""
    parts: list[NDArray[np.float32]] = []
    for episode, entry in enumerate(source.entries):
        if entry.action_dim and entry.frames > 1:
            with suppress(DamagedFile):
                actions = source.actions(episode, 0, entry.frames - 1)
                parts += [actions.min(0), actions.max(0)]
    if len({part.shape for part in parts}) > 1:
        sizes = ", ".join(map(str, sorted({part.shape[0] for part in parts})))
        raise ColaWorldError(f"The episodes of {source.path} have actions of {sizes} components.")
    ends = np.array(parts, np.float64)
    return (ends.min(0), ends.max(0)) if parts else None


@dataclass(frozen=True)
class Piece:
    """Frames ``start`` to ``stop`` (counted at the target fps) of an episode."""

    episode: int
    start: int
    stop: int
    stride: int

    def __len__(self) -> int:
        return self.stop - self.start


TEST_SHARE = 20
"""One episode in so many is held out where a data set does not say which."""


def pieces(entries: Sequence[Entry], split: str, fps: float | None) -> list[Piece]:
    """What belongs to ``split`` ("train" or "test") at ``fps``.

    An episode's own split holds. Of the others a twentieth, chosen by their names, or the last
    tenth of a single one, is for testing; so it is too where all episodes are said to be of one
    split.
    """
    whole = [
        Piece(i, 0, -(-entry.frames // entry.stride(fps)), entry.stride(fps))
        for i, entry in enumerate(entries)
    ]
    if len({entry.split for entry in entries}) == 1:
        return _shared(whole, entries, split)
    own = [piece for piece in whole if entries[piece.episode].split == split]
    rest = [piece for piece in whole if entries[piece.episode].split is None]
    return sorted([*own, *_shared(rest, entries, split)], key=lambda piece: piece.episode)


def _shared(whole: Sequence[Piece], entries: Sequence[Entry], split: str) -> list[Piece]:
    """Those of ``split`` among episodes of which nothing says to which they belong."""
    if len(whole) == 1:
        (piece,) = whole
        cut = max(1, len(piece) - max(2, len(piece) // 10))
        first, last = (0, cut) if split == "train" else (cut, len(piece))
        return [Piece(piece.episode, first, last, piece.stride)]
    shuffled = sorted(whole, key=lambda piece: _digest(entries[piece.episode]))
    held_out = {piece.episode for piece in shuffled[: max(1, len(whole) // TEST_SHARE)]}
    return [piece for piece in whole if (piece.episode in held_out) == (split == "test")]


def _digest(entry: Entry) -> str:
    return hashlib.sha256(f"{Path(entry.file).name}/{entry.key}".encode()).hexdigest()
