"""Training data from a folder in the LeRobot layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.damage import DamagedFile, Ledger, Unreadable
from cola_train.data.episodes import Entry, Extremes
from cola_train.data.file_index import FileIndex
from cola_train.data.lerobot import LeRobotDataset
from cola_train.data.video import Frames
from cola_train.data.video_clock import VideoClock, video_clock
from cola_train.progress import progress_bar


class LeRobotEpisodes:
    """The episodes of a ``LeRobotDataset`` clip by clip.

    All are checked at first, from their rows and the times of their videos; what fails goes to the
    ledger. The times of a video are remembered in the folder ``index`` until its file changes.
    Raises Unreadable when nothing is left.
    """

    def __init__(self, path: Path, index: Path, ledger: Ledger, camera: str | None = None) -> None:
        self.path = path
        self.dataset = LeRobotDataset(path, camera=camera)
        self.dataset.clocks = self._clocks(index, ledger)
        self.entries: list[Entry] = []
        self._extremes: list[NDArray[np.float64]] = []
        splits = {n: name for name in ("train", "test") for n in self.dataset.splits.get(name, ())}
        numbers = range(self.dataset.num_episodes)
        for number in progress_bar(numbers, f"checking {path}", leave=False, delay=1):
            try:
                with self._damage(number):
                    self.dataset.check(number)
                    self._look_at_actions(number)
            except DamagedFile as error:
                ledger.add(error.file, error.reason)
            else:
                self.entries.append(self._entry(number, splits.get(number)))
        if not self.entries:
            raise Unreadable(f"Nothing in {path} can be read: {ledger.summary()}")

    def _clocks(self, index: Path, ledger: Ledger) -> dict[str, VideoClock]:
        fps, numbers = self.dataset.fps, range(self.dataset.num_episodes)
        if not self.dataset.has_video:
            return {}

        def scan(file: Path) -> list[VideoClock]:
            try:
                return [video_clock(file, fps)]
            except ColaWorldError as error:
                raise DamagedFile(file, error.__cause__ or error) from error

        videos = dict.fromkeys(self.dataset.frames_file(number) for number in numbers)
        there = [file for file in videos if file.is_file()]
        known = FileIndex(self.path / f"videos at {fps:g} frames a second", scan, index, ledger)
        clocks = [VideoClock(**fields) for fields in known.contents(there)]
        return {clock.file: clock for clock in clocks}

    def _look_at_actions(self, number: int) -> None:
        if self.dataset.action_dim and self.dataset.episodes[number]["length"] > 1:
            actions = self.dataset.actions(number)[:-1].astype(np.float64)
            self._extremes += [actions.min(0), actions.max(0)]

    def _entry(self, number: int, split: str | None) -> Entry:
        data = self.dataset
        rendering = data.info.get("rendering")
        return Entry(
            str(data.frames_file(number)),
            str(number),
            data.episodes[number]["length"],
            data.fps,
            *data.frame_size,
            data.action_dim,
            split,
            rendering=None if rendering is None else str(rendering),
            camera=data.image,
        )

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        number = self._number(episode)
        with self._damage(number):
            return self.dataset.clip(number, start, stop)[::stride]

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        number = self._number(episode)
        with self._damage(number):
            return self.dataset.actions(number)[start:stop]

    def action_extremes(self) -> Extremes | None:
        ends = np.array(self._extremes)
        return (ends.min(0), ends.max(0)) if self._extremes else None

    def _number(self, episode: int) -> int:
        return int(self.entries[episode].key)

    @contextmanager
    def _damage(self, number: int) -> Iterator[None]:
        """Names the file where an error does not name the episode."""
        try:
            yield
        except DamagedFile:
            raise
        except ColaWorldError as error:
            file = self.dataset.frames_file(number)
            raise DamagedFile(file, error.__cause__ or error) from error
