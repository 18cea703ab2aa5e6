"""Training data from a folder of videos, which have no actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.damage import DamagedFile, Ledger
from cola_train.data.episodes import Entry
from cola_train.data.file_index import FileIndex
from cola_train.data.video import Frames, read_frames
from cola_train.data.video_clock import describe_video

SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v")


class VideoFolder:
    """Every video file below a folder (or one file) is an episode."""

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        index: Path,
        ledger: Ledger,
        camera: str | None = None,
    ) -> None:
        self.path = path
        self.entries = FileIndex(path, scan, index, ledger).entries(files)

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        entry = self.entries[episode]
        wanted = range(start, stop, stride)
        try:
            return read_frames(Path(entry.file), wanted, entry.fps)
        except ColaWorldError as error:
            raise DamagedFile(entry.file, error.__cause__ or error) from error

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        raise ColaWorldError(f"The videos in {self.path} have no actions.")

    def action_extremes(self) -> None:
        return None


def scan(file: Path) -> list[Entry]:
    try:
        return [Entry(str(file), "", *describe_video(file))]
    except ColaWorldError as error:
        raise DamagedFile(file, error.__cause__ or error) from error
