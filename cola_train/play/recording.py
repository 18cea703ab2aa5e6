"""Steps that were played, as LeRobot folders that a training reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_train.data.lerobot_writer import LeRobotWriter

SHORTEST = 2
"""Frames of an episode that is worth keeping."""


@dataclass(frozen=True)
class Source:
    """What episodes of one folder have in common.

    env: the world's name. imagined: whether the frames are the dream's, not the real twin's.
    actions: names of an action's components; codes are kept beside the frames, not as actions.
    """

    env: str
    imagined: bool
    latent: bool
    actions: tuple[str, ...]
    rendering: str
    action_repeat: int
    image_size: int
    fps: int

    @property
    def folder(self) -> str:
        return f"{self.env}_{'imagined' if self.imagined else 'real'}{'_codes' * self.latent}"


@dataclass
class Take:
    """One episode: a frame more than actions."""

    task: str
    frames: list[NDArray[np.uint8]]
    actions: list[NDArray[Any]]


class Recorder:
    """Keeps one folder a Source below `out`, written anew after each episode, so that what has
    ended is on disk. A folder of an earlier session is left as it is: a number is added."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.episodes = 0
        self.folder: Path | None = None
        """Where the last episode went."""
        self._source: Source | None = None
        self._take: Take | None = None
        self._folders: dict[Source, Path] = {}
        self._takes: dict[Source, list[Take]] = {}

    @property
    def recording(self) -> bool:
        return self._take is not None

    @property
    def steps(self) -> int:
        """Of the episode that is being recorded."""
        return 0 if self._take is None else len(self._take.actions)

    def begin(self, source: Source, task: str, frame: NDArray[np.uint8]) -> None:
        """An episode that begins with this frame; one that is being recorded ends."""
        self.end()
        self._source, self._take = source, Take(task, [frame], [])

    def add(self, action: NDArray[Any], frame: NDArray[np.uint8]) -> None:
        if self._take is not None:
            self._take.actions.append(action)
            self._take.frames.append(frame)

    def take_back(self, frame: NDArray[np.uint8]) -> None:
        """The last step never happened; behind the first one the episode begins at `frame`."""
        if self._take is None:
            return
        if self._take.actions:
            self._take.actions.pop()
            self._take.frames.pop()
        else:
            self._take.frames = [frame]

    def end(self) -> None:
        """Writes the episode, unless it is too short to be one."""
        take, self._take = self._take, None
        if take is None or self._source is None or len(take.frames) < SHORTEST:
            return
        takes = self._takes.setdefault(self._source, [])
        takes.append(take)
        self.folder = self._folders.setdefault(self._source, self._free(self._source.folder))
        _write(self.folder, self._source, takes)
        self.episodes += 1

    def _free(self, name: str) -> Path:
        number, folder = 2, self.out / name
        while folder.exists():
            number, folder = number + 1, self.out / f"{name}_{number}"
        return folder


def _write(folder: Path, source: Source, takes: list[Take]) -> None:
    size = len(takes[0].actions[0])
    key = "latent_codes" if source.latent else "action"
    features: dict[str, dict[str, Any]] = {
        "observation.image": {"dtype": "video", "shape": [source.image_size] * 2 + [3]},
        key: {
            "dtype": "int64" if source.latent else "float32",
            "shape": [size],
            "names": list(source.actions) or None,
        },
    }
    writer = LeRobotWriter(
        folder, features=features, fps=source.fps, robot_type=source.env, overwrite=True
    )
    with writer:
        for take in takes:
            actions = np.stack([*take.actions, np.zeros_like(take.actions[0])])
            actions = actions[:, 0] if size == 1 else actions
            columns = {"observation.image": np.stack(take.frames), key: actions}
            writer.add_episode(take.task, columns)
        writer.close(
            env=source.env,
            rendering=source.rendering,
            action_repeat=source.action_repeat,
            imagined=source.imagined,
        )
