"""What every source of training data offers: episodes of frames from one camera, some with actions.

A file that cannot be read is named once and counted at the end, and stops no run.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from cola_env.errors import ColaWorldError

Frames = NDArray[np.uint8]
"""RGB (T, H, W, 3)."""
Extremes = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Entry:
    """One episode as its metadata tell of it, without decoding a frame.

    Attributes:
        file: the file that is named when the frames cannot be read.
        key: which episode of the file, "" where the file is one episode.
        frames, fps, height, width: of the video as it is stored.
        action_dim: size of an action; None: no actions.
        split: "train" or "test" where the data set says so; one of another name is left out.
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

    def rate(self, fps: float | None) -> float:
        """Frames a second of what is read at ``fps``, by that stride."""
        return self.fps / self.stride(fps)


class EpisodeSource(Protocol):
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


def read_extremes(source: EpisodeSource) -> Extremes | None:
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
class Span:
    """Frames ``start`` to ``stop`` (counted at the target fps) of an episode."""

    episode: int
    start: int
    stop: int
    stride: int

    def __len__(self) -> int:
        return self.stop - self.start


def purpose_of(split: str) -> str | None:
    """What a split is for by how its name begins, "train" or "test"; None: that does not tell."""
    begins = split.lower().startswith
    return "train" if begins("train") else "test" if begins(("test", "val")) else None


TEST_SHARE = 20
"""One episode in so many is held out where a data set does not say which."""


def spans(entries: Sequence[Entry], split: str, fps: float | None) -> list[Span]:
    """What belongs to ``split`` ("train" or "test") at ``fps``.

    An episode's own split holds. Of those in none a twentieth, chosen by their names, or the last
    tenth of a single one, is for testing; so it is too where all episodes are said to be of one
    split, unless that is "test".
    """
    whole = [
        Span(i, 0, -(-entry.frames // entry.stride(fps)), entry.stride(fps))
        for i, entry in enumerate(entries)
    ]
    told = {entry.split for entry in entries}
    if len(told) == 1 and told != {"test"}:
        return _shared(whole, entries, split)
    own = [span for span in whole if entries[span.episode].split == split]
    rest = [span for span in whole if entries[span.episode].split is None]
    return sorted([*own, *_shared(rest, entries, split)], key=lambda span: span.episode)


def _shared(whole: Sequence[Span], entries: Sequence[Entry], split: str) -> list[Span]:
    """Those of ``split`` among episodes of which nothing says to which they belong."""
    if len(whole) == 1:
        (span,) = whole
        cut = max(1, len(span) - max(2, len(span) // 10))
        first, last = (0, cut) if split == "train" else (cut, len(span))
        return [Span(span.episode, first, last, span.stride)]
    shuffled = sorted(whole, key=lambda span: _digest(entries[span.episode]))
    held_out = {span.episode for span in shuffled[: max(1, len(whole) // TEST_SHARE)]}
    return [span for span in whole if (span.episode in held_out) == (split == "test")]


def _digest(entry: Entry) -> str:
    return hashlib.sha256(f"{Path(entry.file).name}/{entry.key}".encode()).hexdigest()


class DamagedFile(ColaWorldError):
    """A file that is missing, truncated or otherwise not what its index says."""

    def __init__(self, file: str | Path, reason: object) -> None:
        self.file = str(file)
        told = getattr(reason, "strerror", None) or str(reason)
        self.reason = (told.splitlines() or [type(reason).__name__])[0]
        super().__init__(f"The file {self.file} is damaged: {self.reason}")

    def __reduce__(self) -> tuple[type[DamagedFile], tuple[str, str]]:
        return type(self), (self.file, self.reason)


class Unreadable(ColaWorldError):
    """Nothing is left of a source that can be read."""


class DamageReport:
    """The damaged files of a run and what is wrong with each.

    Warns at the first meeting with a file. A copy in a reader process stays silent: what it has
    met is added to the one of the main process (``batches``), which warns.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def add(self, file: str, reason: str) -> None:
        if file in self.files:
            return
        self.files[file] = reason
        if get_worker_info() is None:
            warnings.warn(f"{file} is damaged and skipped: {reason}", stacklevel=2)

    def summary(self) -> str:
        """One sentence that counts and names the files; empty when there are none."""
        if not self.files:
            return ""
        names = ", ".join(list(self.files)[:5])
        more = f" and {len(self.files) - 5} more" if len(self.files) > 5 else ""
        return f"{len(self.files)} damaged file(s) were skipped: {names}{more}."


def is_depth(name: str) -> bool:
    """Whether a camera is by its name one of depth maps: "head_depth", but not "depth_cam_rgb"."""
    return "depth" in name.lower() and not re.search("rgb|colou?r", name.lower())


def choose_camera(available: Collection[str], camera: str | None, where: str) -> str:
    """The name among ``available`` that is read: ``camera``, in full or by its last part without
    "_image" or "_rgb" ("top" is observation.images.top, "agentview" is agentview_image).

    None: the first that is not on the hand; of several, a warning says which. Depth maps are no
    cameras. where: the data set, for messages. Raises ColaWorldError when there is no such camera.
    """
    names = [name for name in available if not is_depth(name)]
    if not names:
        maps = f" but depth maps ({', '.join(available)})" if available else ""
        raise ColaWorldError(f"{where} has no camera: it holds no pictures{maps}.")
    if camera is not None:
        found = [name for name in names if name == camera] or [
            name for name in names if _short(name) == camera
        ]
        if len(found) != 1:
            raise ColaWorldError(
                f"{where} has no camera {camera!r}: choose one of {names} by loading.camera."
            )
        return found[0]
    taken = min(names, key=_is_on_the_hand)
    if len(names) > 1:
        warnings.warn(
            f"Of the cameras {names} of {where}, {taken!r} is read: choose another by "
            "loading.camera.",
            stacklevel=2,
        )
    return taken


def _short(name: str) -> str:
    return re.sub("_(image|rgb)$", "", re.split("[./]", name)[-1])


def _is_on_the_hand(name: str) -> bool:
    return re.search("wrist|hand|gripper", name.lower()) is not None
