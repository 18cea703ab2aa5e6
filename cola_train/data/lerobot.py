"""Reader of the LeRobot v3 dataset layout (huggingface/lerobot, `codebase_version` v3.0).

    meta/info.json                                    features, fps, path templates, splits
    meta/tasks.parquet                                task text (pandas index) -> task_index
    meta/stats.json                                   min, max, mean, std, count of every feature
    meta/episodes/chunk-000/file-000.parquet          one row an episode: where its rows/frames are
    data/chunk-000/file-000.parquet                   one row a frame, many episodes a file
    videos/{key}/chunk-000/file-000.mp4               many episodes a file

Row t of an episode is frame t and the action taken after it, so the action of the last row leads to
no stored frame. Our writer fills that row with zeros; the reader drops it for every dataset.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.cameras import choose_camera
from cola_train.data.video import Frames, decode_image, read_clips

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        "Reading LeRobot datasets needs pyarrow; install it with: pip install 'colaworld[train]'"
    ) from error

VERSION = "v3.0"
INFO, TASKS, STATS = "meta/info.json", "meta/tasks.parquet", "meta/stats.json"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{FILE}.parquet"
DATA_PATH = f"data/{FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{FILE}.mp4"


@dataclass(frozen=True)
class Episode:
    """T transitions and T + 1 frames; what the dataset does not hold is None."""

    frames: Frames
    """uint8 RGB (T + 1, H, W, 3); frame t is before action t."""
    actions: NDArray[np.float32] | None
    """(T, A)."""
    rewards: NDArray[np.float32] | None
    """(T,), after action t."""
    successes: NDArray[np.bool_] | None
    """(T, number of tasks), after action t."""
    states: NDArray[np.float64] | None
    """(T + 1, D)."""
    task: str


class LeRobotDataset:
    """A dataset folder in the LeRobot v3 layout, read lazily.

    `camera` is the one to read (see `choose_camera`), `action` the action feature; a dataset
    without it gives episodes whose `actions` is None.
    Raises ColaWorldError for a missing folder, another layout, an unknown camera, a damaged file.
    """

    def __init__(
        self, path: str | Path, *, camera: str | None = None, action: str = "action"
    ) -> None:
        self.path = Path(path)
        self.info = _read_info(self.path)
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self.fps = float(self.info["fps"])
        cameras = [
            name
            for name, feature in self.features.items()
            if feature["dtype"] in ("video", "image") and not _is_depth_map(feature)
        ]
        self.image = choose_camera(cameras, camera, str(self.path))
        self.action = action
        self.episodes = self._read_episodes()
        self.tasks = self._read_tasks()
        self.offsets = np.cumsum([0, *(int(e["length"]) for e in self.episodes)])
        """(num_episodes + 1,): episode i is rows offsets[i] to offsets[i + 1] of load_frames()."""

    @property
    def num_episodes(self) -> int:
        return len(self.episodes)

    @property
    def num_frames(self) -> int:
        return int(self.offsets[-1])

    def split(self, name: str) -> range:
        """Episode numbers of a split of info.json, e.g. "train" or "test"."""
        splits: dict[str, str] = self.info.get("splits", {})
        if name not in splits:
            raise ColaWorldError(f"{self.path} has no split {name!r}: choose one of {[*splits]}.")
        start, stop = splits[name].split(":")
        return range(int(start), int(stop))

    def episode(self, index: int) -> Episode:
        row = self.episodes[index]
        columns = self._columns(index)
        successes = columns.get("next.successes", columns.get("next.success"))
        actions, rewards = columns.get(self.action), columns.get("next.reward")
        states = columns.get("observation.state")
        return Episode(
            frames=self.frames(index),
            actions=None if actions is None else actions[:-1].astype(np.float32),
            rewards=None if rewards is None else rewards[:-1].astype(np.float32),
            successes=None if successes is None else _as_rows(successes)[:-1].astype(bool),
            states=None if states is None else states.astype(np.float64),
            task=str(row["tasks"][0]) if row.get("tasks") else self._task(columns),
        )

    def frames(self, index: int) -> Frames:
        """All frames of one episode, uint8 RGB (T + 1, H, W, 3)."""
        return self.clip(index, 0, int(self.episodes[index]["length"]))

    def clip(self, index: int, start: int, stop: int) -> Frames:
        """Frames ``start`` to ``stop`` of one episode, uint8 RGB (stop - start, H, W, 3)."""
        row = self.episodes[index]
        if self.features[self.image]["dtype"] == "image":
            images = self._columns(index)[self.image][start:stop]
            return np.stack([decode_image(image["bytes"]) for image in images])
        first = self._clip(row)[0] + start / self.fps
        return read_clips(self._video(row), [(first, stop - start)], self.fps)[0]

    def actions(self, index: int) -> NDArray[Any]:
        """The actions (T + 1, A) of one episode; the last leads to no frame."""
        return self._columns(index)[self.action]

    def frames_file(self, index: int) -> Path:
        """The file that holds the frames of an episode."""
        row = self.episodes[index]
        is_image = self.features[self.image]["dtype"] == "image"
        return self._data(row) if is_image else self._video(row)

    def load_frames(self) -> Frames:
        """The frames of all episodes, uint8 RGB (num_frames, H, W, 3), each video read once."""
        if self.features[self.image]["dtype"] == "image":
            return np.concatenate([self.frames(i) for i in range(self.num_episodes)])
        files: dict[Path, list[int]] = {}
        for i, row in enumerate(self.episodes):
            files.setdefault(self._video(row), []).append(i)
        frames: Frames | None = None
        for file, members in files.items():
            members.sort(key=lambda i: self._clip(self.episodes[i])[0])
            clips = [self._clip(self.episodes[i]) for i in members]
            for i, clip in zip(members, read_clips(file, clips, self.fps), strict=True):
                if frames is None:
                    frames = np.empty((self.num_frames, *clip.shape[1:]), np.uint8)
                frames[self.offsets[i] : self.offsets[i + 1]] = clip
        if frames is None:
            raise ColaWorldError(f"{self.path} holds no episodes.")
        return frames

    def _clip(self, row: dict[str, Any]) -> tuple[float, int]:
        return float(row[f"videos/{self.image}/from_timestamp"]), int(row["length"])

    def _video(self, row: dict[str, Any]) -> Path:
        return self.path / self.info["video_path"].format(
            video_key=self.image,
            chunk_index=row[f"videos/{self.image}/chunk_index"],
            file_index=row[f"videos/{self.image}/file_index"],
        )

    def _data(self, row: dict[str, Any]) -> Path:
        return self.path / self.info["data_path"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )

    def _columns(self, index: int) -> dict[str, NDArray[Any]]:
        row = self.episodes[index]
        file = self._data(row)
        columns = _data_file(file, file.stat().st_mtime_ns if file.exists() else 0)
        start = int(row["dataset_from_index"]) - int(columns["index"][0])
        stop = start + int(row["length"])
        if start < 0 or stop > len(columns["index"]):
            raise ColaWorldError(f"{file} does not hold the rows of episode {index}.")
        return {name: values[start:stop] for name, values in columns.items()}

    def _task(self, columns: dict[str, NDArray[Any]]) -> str:
        return self.tasks[int(columns["task_index"][0])]

    def _read_episodes(self) -> list[dict[str, Any]]:
        files = sorted((self.path / "meta" / "episodes").glob("*/*.parquet"))
        rows: list[dict[str, Any]] = []
        for file in files:
            names = [n for n in _schema(file).names if not n.startswith("stats/")]
            rows += _read_table(file, names).to_pylist()
        rows.sort(key=lambda row: row["episode_index"])
        if len(rows) != self.info["total_episodes"]:
            raise ColaWorldError(
                f"{self.path} is incomplete: info.json counts {self.info['total_episodes']} "
                f"episodes, meta/episodes holds {len(rows)}; fetch the dataset again."
            )
        return rows

    def _read_tasks(self) -> dict[int, str]:
        rows = _read_table(self.path / TASKS).to_pylist()
        return {row.pop("task_index"): str(next(iter(row.values()))) for row in rows}


def _is_depth_map(feature: dict[str, Any]) -> bool:
    told = {**feature, **(feature.get("info") or {}), **(feature.get("video_info") or {})}
    return bool(told.get("is_depth_map") or told.get("video.is_depth_map"))


def _as_rows(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ColaWorldError(
            f"There is no dataset folder {path}: make one with "
            "'python -m cola_train.collect' or name another."
        )
    try:
        info: dict[str, Any] = json.loads((path / INFO).read_text())
    except FileNotFoundError as error:
        raise ColaWorldError(
            f"{path} is no LeRobot dataset: it holds no {INFO} (or its collection has not ended)."
        ) from error
    except (OSError, ValueError) as error:
        raise ColaWorldError(f"{path / INFO} is damaged ({error}).") from error
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise ColaWorldError(
            f"{path} is in the LeRobot layout {version}, {VERSION} is needed: "
            "convert it with lerobot's convert_dataset_v21_to_v30."
        )
    missing = {"features", "fps", "data_path", "total_episodes"} - info.keys()
    if missing:
        raise ColaWorldError(f"{path / INFO} is damaged: it lacks {sorted(missing)}.")
    return info


@lru_cache(maxsize=4)
def _data_file(file: Path, modified: int) -> dict[str, NDArray[Any]]:
    table = _read_table(file)
    return {name: _to_numpy(table.column(name)) for name in table.column_names}


def _schema(file: Path) -> pa.Schema:
    return _parquet(file).schema_arrow


def _read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return _parquet(file).read(columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _parquet(file: Path) -> pq.ParquetFile:
    if not file.is_file():
        raise ColaWorldError(f"The file {file} is missing: fetch the dataset again.")
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ColaWorldError:
    reason = str(error).splitlines()[0]
    return ColaWorldError(f"The file {file} is damaged ({reason}): fetch the dataset again.")


def _to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    values = column.combine_chunks()
    shape = [len(values)]
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
        shape.append(-1 if not shape[0] else len(values) // int(np.prod(shape)))
    return values.to_numpy(zero_copy_only=False).reshape(shape)
