"""Training data from a folder in the LeRobot v3 layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.damage import DamagedFile
from cola_train.data.episodes import Entry, Extremes, read_extremes
from cola_train.data.lerobot import STATS, LeRobotDataset
from cola_train.data.video import Frames


class LeRobotEpisodes:
    """The episodes of a ``LeRobotDataset`` clip by clip; its metadata are the index."""

    def __init__(self, path: Path, camera: str | None = None) -> None:
        self.path = path
        self.dataset = LeRobotDataset(path, camera=camera)
        self.entries = [self._entry(index) for index in range(self.dataset.num_episodes)]
        for name in ("train", "test"):
            if name in self.dataset.info.get("splits", {}):
                self._mark(name)

    def _entry(self, index: int) -> Entry:
        data = self.dataset
        height, width = data.features[data.image]["shape"][:2]
        action = data.features.get(data.action)
        rendering = data.info.get("rendering")
        return Entry(
            str(data.frames_file(index)),
            str(index),
            int(data.episodes[index]["length"]),
            data.fps,
            int(height),
            int(width),
            None if action is None else int(np.prod(action["shape"])),
            rendering=None if rendering is None else str(rendering),
            camera=data.image,
        )

    def _mark(self, name: str) -> None:
        from dataclasses import replace

        for index in self.dataset.split(name):
            self.entries[index] = replace(self.entries[index], split=name)

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        try:
            return self.dataset.clip(episode, start, stop)[::stride]
        except ColaWorldError as error:
            raise DamagedFile(self.entries[episode].file, error.__cause__ or error) from error

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        try:
            actions = self.dataset.actions(episode)[start:stop]
        except ColaWorldError as error:
            raise DamagedFile(self.entries[episode].file, error.__cause__ or error) from error
        return actions.reshape(len(actions), -1).astype(np.float32)

    def action_extremes(self) -> Extremes | None:
        """From meta/stats.json where it tells."""
        try:
            stats = json.loads((self.path / STATS).read_text())[self.dataset.action]
            return np.array(stats["min"], float).ravel(), np.array(stats["max"], float).ravel()
        except (OSError, KeyError, TypeError, ValueError):
            return read_extremes(self)
