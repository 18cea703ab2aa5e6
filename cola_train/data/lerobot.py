"""Reader of the LeRobot dataset layout (huggingface/lerobot, `codebase_version` v3.0).

    meta/info.json                                    features, fps, path templates, splits
    meta/tasks.parquet                                task text (pandas index) -> task_index
    meta/stats.json                                   min, max, mean, std, count of every feature
    meta/episodes/chunk-000/file-000.parquet          one row an episode: where its rows/frames are
    data/chunk-000/file-000.parquet                   one row a frame, many episodes a file
    videos/{key}/chunk-000/file-000.mp4               many episodes a file

The layouts v2.0 and v2.1 differ in the files of `meta` (see `cola_train.data.lerobot_files`) and in
that an episode has files of its own.

Row t of an episode is frame t and the action taken after it, so the action of the last row leads to
no stored frame. Our writer fills that row with zeros; the reader drops it for every dataset.

What the metadata say of an episode is checked against its rows and the times of its video's frames
before any of it is handed out. meta/stats.json is not believed: it is not read.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.console import progress_bar
from cola_train.data.episode_source import (
    DamagedFile,
    DamageReport,
    Entry,
    Extremes,
    Frames,
    Unreadable,
    choose_camera,
    purpose_of,
)
from cola_train.data.file_index import FileIndex
from cola_train.data.lerobot_files import (
    INFO,
    PLACES,
    data_columns,
    image_shape,
    is_camera,
    read_episodes,
    read_info,
    read_tasks,
)
from cola_train.data.video import SLACK, VideoClock, decode_image, read_clip, video_clock

FIELD = re.compile(r"\{\w+(:\d{1,2}d?)?\}")
"""In a path of info.json: a name or number, filled up with zeros."""
LONGEST_NAME = 255
"""Of a file or folder."""
ACTION = "action"
INTENDED = "action.intended"
"""What a script wanted to do before noise was added to its action."""

LABELS = (
    "task_index",
    "next.reward",
    "next.success",
    "next.successes",
    "observation.state",
    INTENDED,
)


@dataclass(frozen=True)
class RecordedEpisode:
    """T transitions and T + 1 frames; what the dataset does not hold is None."""

    frames: Frames
    """uint8 RGB (T + 1, H, W, 3); frame t is before action t."""
    actions: NDArray[np.float32] | None
    """(T, A)."""
    intended: NDArray[np.float32] | None
    """(T, A), the actions without the noise under which they were recorded."""
    rewards: NDArray[np.float32] | None
    """(T,), after action t."""
    successes: NDArray[np.bool_] | None
    """(T, number of tasks), after action t."""
    states: NDArray[np.float64] | None
    """(T + 1, D)."""
    task: str


class LeRobotDataset:
    """A dataset folder in the LeRobot layout v3, v2.1 or v2.0, read lazily.

    `camera` is the one to read, see `choose_camera`. Without actions, those of an episode are None.
    Raises ColaWorldError for a missing folder, another layout, an unknown camera, a damaged file,
    a path that leads out of the folder. Methods that read an episode raise DamagedFile where its
    content is not what the metadata say: see `check`.
    """

    def __init__(self, path: str | Path, *, camera: str | None = None) -> None:
        self.path = Path(path)
        self.info = read_info(self.path)
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self.fps = float(self.info["fps"])
        cameras = [name for name, feature in self.features.items() if is_camera(feature)]
        self.image = choose_camera(cameras, camera, str(self.path))
        self._labels = tuple(name for name in LABELS if name in self.features)
        self.episodes = read_episodes(self.path, self.info, self.image)
        self.tasks = read_tasks(self.path, self.info)
        self._data = [self._file("data_path", row, "data") for row in self.episodes]
        self._videos = [
            self._file("video_path", row, f"videos/{self.image}") if self.has_video else None
            for row in self.episodes
        ]
        self.clocks: dict[str, VideoClock] = {}
        """Of the videos that have been looked at."""
        self._right: set[int] = set()

    @property
    def num_episodes(self) -> int:
        return len(self.episodes)

    @property
    def has_video(self) -> bool:
        """Whether the frames are in videos, not in the rows."""
        return bool(self.features[self.image]["dtype"] == "video")

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames as info.json declares them."""
        height, width, _ = image_shape(self.features[self.image])
        return height, width

    @property
    def action_dim(self) -> int | None:
        feature = self.features.get(ACTION)
        return None if feature is None else math.prod(feature["shape"])

    @property
    def splits(self) -> dict[str, range]:
        """Episode numbers of the splits of info.json, e.g. "train" and "test".

        Raises ColaWorldError when they are no parts of the episodes.
        """
        try:
            told = dict(self.info.get("splits") or {})
            ends = {name: [int(end) for end in value.split(":")] for name, value in told.items()}
            splits = {name: range(start, stop) for name, (start, stop) in ends.items()}
            if any(not 0 <= s.start <= s.stop <= self.num_episodes for s in splits.values()):
                raise ValueError("there are fewer episodes")
        except (AttributeError, TypeError, ValueError) as error:
            raise ColaWorldError(
                f"{self.path / INFO} is damaged: its splits are {self.info['splits']}; a split of "
                f'its {self.num_episodes} episodes is written "FIRST:STOP", e.g. '
                f'"0:{self.num_episodes}".'
            ) from error
        return splits

    def split(self, name: str) -> range:
        """Episode numbers of one split."""
        if name not in self.splits:
            raise ColaWorldError(
                f"{self.path} has no split {name!r}: choose one of {[*self.splits]}."
            )
        return self.splits[name]

    @cached_property
    def purposes(self) -> list[str | None]:
        """What each episode is for by its splits, "train" or "test", of which "test" holds where
        both are told; the name of its split where that does not tell; None where it is in none, or
        all are in one that does not tell.

        Warns of the splits that are left out for their names. Raises as ``splits``.
        """
        uses = {name: purpose_of(name) for name in self.splits}
        order = sorted(uses, key=lambda name: (None, "train", "test").index(uses[name]))
        told = {number: uses[name] or name for name in order for number in self.splits[name]}
        found = [told.get(number) for number in range(self.num_episodes)]
        unknown = [name for name in order if name in found and uses[name] is None]
        if unknown and len(set(found)) == 1:
            return [None] * self.num_episodes
        if unknown:
            warnings.warn(
                f"The episodes of {self.path} in {' and '.join(unknown)} are left out: a split is "
                "learned from if its name begins with train, and measured on if with val or test.",
                stacklevel=2,
            )
        return found

    def check(self, index: int) -> None:
        """Raises DamagedFile when the rows of an episode are not those that the metadata tell of,
        its actions are not finite or of another size, or frames of its video are missing, come at
        other times than `fps` says, or belong to another episode too."""
        if index in self._right:
            return
        if fault := self._fault_of_rows(index):
            raise _fault_of(self._data[index], index, fault)
        if (video := self._videos[index]) and (fault := self._fault_of_video(index, video)):
            raise _fault_of(video, index, fault)
        self._right.add(index)

    def _fault_of_rows(self, index: int) -> str:
        rows = self._rows(index, *(() if self.action_dim is None else (ACTION,)))
        length, steps = len(rows["index"]), np.arange(len(rows["index"]))
        first = self.episodes[index].get("dataset_from_index", rows["index"][0])
        if not np.array_equal(rows["frame_index"], steps):
            return f"its frame_index does not count from 0 to {length - 1}"
        if not np.array_equal(rows["index"], first + steps):
            return f"its index does not count from {first} to {first + length - 1}"
        if not (np.abs(rows["timestamp"] * self.fps - steps) < 0.5).all():
            return f"its timestamps are not those of {self.fps:g} frames a second"
        if self.action_dim is None:
            return ""
        actions = _as_rows(rows[ACTION])
        if actions.shape[1] != self.action_dim or actions.dtype.kind not in "fiub":
            return f"its actions are {actions.dtype} {actions.shape}, not {self.action_dim} numbers"
        if not np.isfinite(actions[:-1].astype(np.float32)).all():
            return "its actions hold NaN or infinity"
        return ""

    def _fault_of_video(self, index: int, video: Path) -> str:
        row = self.episodes[index]
        if (clock := self.clocks.get(str(video))) is None:
            clock = self.clocks[str(video)] = video_clock(video, self.fps)
        if clock.end != self._ends[video]:
            raise DamagedFile(
                video,
                f"at {self.fps:g} frames a second it ends after frame {clock.end - 1}, its "
                f"episodes after frame {self._ends[video] - 1}",
            )
        length, start = row["length"], self._start(index) * self.fps
        first = round(start)
        missing = sorted({*range(first, first + length)}.intersection(clock.off))
        if missing or abs(start - first) > SLACK:
            return (
                f"{len(missing) or length} of its {length} frames, the first of them number "
                f"{missing[0] - first if missing else 0}, are not in the video at the times of "
                f"{self.fps:g} frames a second (dropped frames, or another clock)"
            )
        stop = row.get(f"videos/{self.image}/to_timestamp")
        if stop is not None and not abs(stop * self.fps - start - length) < 0.5:
            return f"it has {length} rows, and is said to end at second {stop} of its video"
        return "frames of it are another episode's too" if index in self._overlapping else ""

    @cached_property
    def _ends(self) -> dict[Path | None, int]:
        """The number of frames that a video has, by the last of its episodes."""
        ends: dict[Path | None, int] = {}
        for index, video in enumerate(self._videos):
            end = round(self._start(index) * self.fps) + self.episodes[index]["length"]
            ends[video] = max(end, ends.get(video, 0))
        return ends

    @cached_property
    def _overlapping(self) -> set[int]:
        """The episodes that share frames of a video with another."""
        found: set[int] = set()
        numbers = range(self.num_episodes)
        order = sorted(numbers, key=lambda i: (str(self._videos[i]), self._start(i)))
        for one, other in pairwise(order):
            apart = (self._start(other) - self._start(one)) * self.fps
            if (
                self._videos[one] == self._videos[other]
                and apart < self.episodes[one]["length"] - 0.5
            ):
                found |= {one, other}
        return found

    def episode(self, index: int) -> RecordedEpisode:
        frames, columns = self.frames(index), self._rows(index, *self._labels)
        successes = columns.get("next.successes", columns.get("next.success"))
        rewards, states = columns.get("next.reward"), columns.get("observation.state")
        intended = columns.get(INTENDED)
        labels = {"next.reward": rewards, "observation.state": states, INTENDED: intended}
        for name, values in labels.items():
            if values is not None and not np.isfinite(values.astype(np.float64)).all():
                raise _fault_of(self._data[index], index, f"NaN or infinity in {name}")
        return RecordedEpisode(
            frames=frames,
            actions=None if self.action_dim is None else self.actions(index)[:-1],
            intended=None if intended is None else _as_rows(intended)[:-1].astype(np.float32),
            rewards=None if rewards is None else rewards[:-1].astype(np.float32),
            successes=None if successes is None else _as_rows(successes)[:-1].astype(bool),
            states=None if states is None else states.astype(np.float64),
            task=self._task(index, columns),
        )

    def task(self, index: int) -> str:
        """What one episode shows, in words; nothing is decoded for it."""
        named = "task_index" in self.features and not self.episodes[index].get("tasks")
        return self._task(index, self._rows(index, "task_index") if named else {})

    def frames(self, index: int) -> Frames:
        """All frames of one episode, uint8 RGB (T + 1, H, W, 3)."""
        return self.clip(index, 0, int(self.episodes[index]["length"]))

    def clip(self, index: int, start: int, stop: int) -> Frames:
        """Frames ``start`` to ``stop`` of one episode, uint8 RGB (stop - start, H, W, 3)."""
        self.check(index)
        if (video := self._videos[index]) is not None:
            first = self._start(index) + start / self.fps
            return read_clip(video, first, stop - start, self.fps)
        images = self._rows(index, self.image)[self.image][start:stop]
        try:
            return np.stack([decode_image(image["bytes"]) for image in images])
        except (ColaWorldError, KeyError, TypeError, ValueError) as error:
            fault = f"its pictures of {self.image} cannot be read ({error})"
            raise _fault_of(self._data[index], index, fault) from error

    def actions(self, index: int) -> NDArray[np.float32]:
        """The actions (T + 1, A) of one episode that has some; the last leads to no frame."""
        self.check(index)
        return _as_rows(self._rows(index, ACTION)[ACTION]).astype(np.float32)

    def frames_file(self, index: int) -> Path:
        """The file that holds the frames of an episode."""
        return self._videos[index] or self._data[index]

    def _start(self, index: int) -> float:
        """The second of its video at which an episode begins."""
        return float(self.episodes[index][f"videos/{self.image}/from_timestamp"])

    def _rows(self, index: int, *names: str) -> dict[str, NDArray[Any]]:
        """The rows of one episode: columns ``PLACES`` and ``names``."""
        file, length = self._data[index], self.episodes[index]["length"]
        columns = data_columns(file, (*PLACES, *names))
        rows = np.flatnonzero(columns["episode_index"] == index)
        if len(rows) != length or rows[-1] - rows[0] != length - 1:
            fault = f"{len(rows)} rows are of it, or they are no succession: {length} are told of"
            raise _fault_of(file, index, fault)
        return {name: values[rows[0] : rows[0] + length] for name, values in columns.items()}

    def _file(self, template: str, row: dict[str, Any], place: str) -> Path:
        """The file that a template of info.json names for an episode."""
        try:
            chunk, number = row[f"{place}/chunk_index"], row[f"{place}/file_index"]
            if re.search("[{}]", FIELD.sub("", self.info[template])):
                raise ValueError("it has other fields than names and numbers of files")
            name = self.info[template].format(
                video_key=self.image,
                chunk_index=chunk,
                file_index=number,
                episode_chunk=chunk,
                episode_index=row["episode_index"],
            )
            if max(map(len, name.split(os.sep))) > LONGEST_NAME:
                raise ValueError("its names are too long")
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ColaWorldError(
                f"{self.path} is damaged: {template} of {INFO}, {self.info.get(template)!r}, gives "
                f"no file for episode {row['episode_index']} ({error!r}); fetch the dataset again."
            ) from error
        inside = os.path.normpath(name)
        if os.path.isabs(inside) or inside.split(os.sep)[0] == "..":
            raise ColaWorldError(
                f"{self.path / INFO} names a file outside of its folder ({template}: {name!r}): "
                "it is not read; fetch the dataset again."
            )
        return self.path / inside

    def _task(self, index: int, columns: dict[str, NDArray[Any]]) -> str:
        if told := self.episodes[index].get("tasks"):
            return str(told[0])
        task = int(columns["task_index"][0]) if "task_index" in columns else None
        if task not in self.tasks:
            raise ColaWorldError(f"{self.path} does not name the task of episode {index}.")
        return self.tasks[task]


def _as_rows(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)


def _fault_of(file: Path, index: int, fault: str) -> DamagedFile:
    return DamagedFile(f"{file}, episode {index}", fault)


class LeRobotSource:
    """The episodes of a ``LeRobotDataset`` clip by clip.

    All are checked at first, from their rows and the times of their videos; what fails goes to
    ``damage_report``. The times of a video are remembered in the folder ``index`` until its file
    changes. Raises Unreadable when nothing is left.
    """

    def __init__(
        self, path: Path, index: Path, damage_report: DamageReport, camera: str | None = None
    ) -> None:
        self.path = path
        self.dataset = LeRobotDataset(path, camera=camera)
        self.dataset.clocks = self._clocks(index, damage_report)
        self.entries: list[Entry] = []
        self._extremes: list[NDArray[np.float64]] = []
        purposes = self.dataset.purposes
        numbers = range(self.dataset.num_episodes)
        for number in progress_bar(numbers, f"checking {path}", leave=False, delay=1):
            try:
                with self._damage(number):
                    self.dataset.check(number)
                    self._look_at_actions(number)
            except DamagedFile as error:
                damage_report.add(error.file, error.reason)
            else:
                self.entries.append(self._entry(number, purposes[number]))
        if not self.entries:
            raise Unreadable(f"Nothing in {path} can be read: {damage_report.summary()}")

    def _clocks(self, index: Path, damage_report: DamageReport) -> dict[str, VideoClock]:
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
        known = FileIndex(
            self.path / f"videos at {fps:g} frames a second", scan, index, damage_report
        )
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
