"""Training data from a folder in the LeRobot layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.damage import DamagedFile
from cola_train.data.episodes import Entry, Extremes, read_extremes
from cola_train.data.lerobot import LeRobotDataset
from cola_train.data.video import Frames


class LeRobotEpisodes:
    """The episodes of a ``LeRobotDataset`` clip by clip; its metadata are the index."""

    def __init__(self, path: Path, camera: str | None = None) -> None:
        self.path = path
        self.dataset = LeRobotDataset(path, camera=camera)
        splits = {
            episode: name
            for name in ("train", "test")
            for episode in self.dataset.splits.get(name, ())
        }
        self.entries = [
            self._entry(episode, splits.get(episode))
            for episode in range(self.dataset.num_episodes)
        ]

    def _entry(self, index: int, split: str | None) -> Entry:
        data = self.dataset
        rendering = data.info.get("rendering")
        return Entry(
            str(data.frames_file(index)),
            str(index),
            data.episodes[index]["length"],
            data.fps,
            *data.frame_size,
            data.action_dim,
            split,
            rendering=None if rendering is None else str(rendering),
            camera=data.image,
        )

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        with self._damage(episode):
            return self.dataset.clip(episode, start, stop)[::stride]

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        with self._damage(episode):
            return self.dataset.actions(episode)[start:stop]

    @contextmanager
    def _damage(self, episode: int) -> Iterator[None]:
        """Names the file where an error does not name the episode."""
        try:
            yield
        except DamagedFile:
            raise
        except ColaWorldError as error:
            raise DamagedFile(self.entries[episode].file, error.__cause__ or error) from error

    def action_extremes(self) -> Extremes | None:
        return read_extremes(self)
