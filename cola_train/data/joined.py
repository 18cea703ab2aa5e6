"""Several dataset folders as one."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from cola_env.errors import ColaWorldError
from cola_env.simulators.rendering import check_same_profile
from cola_train.data.lerobot import Episode, LeRobotDataset


class JoinedDataset:
    """The episodes of several LeRobot folders, one folder after the other.

    Raises ColaWorldError for folders of different rendering profiles, tasks or action repeats.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.parts = [LeRobotDataset(path) for path in paths]
        self.path = ", ".join(str(part.path) for part in self.parts)
        self.info: dict[str, Any] = self.parts[0].info
        for part in self.parts[1:]:
            here, there = str(self.info.get("rendering")), str(part.info.get("rendering"))
            check_same_profile(here, there, f"{self.parts[0].path} and {part.path}")
            for key in ("tasks", "action_repeat"):
                if part.info.get(key) != self.info.get(key):
                    raise ColaWorldError(
                        f"{self.parts[0].path} and {part.path} differ in {key}: train on one."
                    )
        self.episodes = [row for part in self.parts for row in part.episodes]
        self._starts = [0, *accumulate(part.num_episodes for part in self.parts)]

    @property
    def num_episodes(self) -> int:
        return self._starts[-1]

    def episode(self, index: int) -> Episode:
        part = bisect_right(self._starts, index) - 1
        return self.parts[part].episode(index - self._starts[part])

    def split(self, name: str) -> list[int]:
        """The episodes of a split ("train", "test") in all folders."""
        return [
            start + index
            for start, part in zip(self._starts, self.parts, strict=False)
            for index in part.split(name)
        ]


def open_dataset(data: str | Sequence[str]) -> JoinedDataset:
    """One dataset from a folder or a list of folders."""
    return JoinedDataset([data] if isinstance(data, str) else list(data))
