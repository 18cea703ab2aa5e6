"""Writer of the LeRobot v3 dataset layout; `cola_train.data.lerobot` describes and reads it."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.files import write_json
from cola_train.data.episode_source import Frames
from cola_train.data.lerobot_files import (
    DATA_PATH,
    EPISODES_PATH,
    INFO,
    STATS,
    TASKS,
    VERSION,
    VIDEO_PATH,
)
from cola_train.data.video import PIXEL_FORMAT, VideoWriter

BOOKKEEPING: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
ROWS_PER_GROUP = 4096
FILES_PER_CHUNK = 1000


class LeRobotWriter:
    """Writes episodes one by one; nothing is visible at `path` before `close()`.

    `features` are those of info.json without the bookkeeping columns: the key, then "dtype"
    ("video", or a numpy dtype), "shape" ((H, W, 3) for a video) and optional "names".
    A data or video file is closed at the first episode that takes it past `data_mb`/`video_mb`.
    `overwrite` lets `close()` replace a dataset that is already at `path`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        features: Mapping[str, Mapping[str, Any]],
        fps: int,
        robot_type: str,
        crf: int = 4,
        data_mb: float = 100,
        video_mb: float = 200,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        if (self.path / INFO).exists() and not overwrite:
            raise ColaWorldError(f"{self.path} already holds a dataset: choose another folder.")
        self._root = self.path / ".writing"
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True)
        self._features = {k: {"names": None, **f} for k, f in features.items()} | BOOKKEEPING
        self._fps, self._robot_type, self._crf = fps, robot_type, crf
        self._data_mb, self._video_mb = data_mb, video_mb
        self._schema = pa.schema(
            [(k, _arrow_type(f)) for k, f in self._features.items() if f["dtype"] != "video"]
        )
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._stats: list[dict[str, Stats]] = []
        self._num_rows = 0
        self._rows: list[pa.RecordBatch] = []
        self._data: pq.ParquetWriter | None = None
        self._data_index, self._data_bytes = 0, 0
        self._videos: dict[str, VideoWriter] = {}
        self._video_index = dict.fromkeys(self._video_keys, 0)

    @property
    def _video_keys(self) -> list[str]:
        return [k for k, f in self._features.items() if f["dtype"] == "video"]

    def add_episode(
        self,
        task: str,
        columns: Mapping[str, NDArray[Any]],
        extra: Mapping[str, str | int | float] | None = None,
    ) -> None:
        """Adds one episode: for every feature an array whose first axis is time.

        `extra` become further columns of the episode's row in meta/episodes.
        """
        length = len(next(iter(columns.values())))
        for key, feature in self._features.items():
            if key in BOOKKEEPING:
                continue
            expected = (length, *(feature["shape"] if feature["shape"] != [1] else ()))
            if key not in columns or columns[key].shape != expected:
                found = columns[key].shape if key in columns else "nothing"
                raise ColaWorldError(f"The feature {key!r} needs shape {expected}, not {found}.")
        number = len(self._episodes)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [task],
            "length": length,
            "dataset_from_index": self._num_rows,
            "dataset_to_index": self._num_rows + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            **(extra or {}),
        }
        frame_index = np.arange(length)
        table: dict[str, NDArray[Any]] = {k: v for k, v in columns.items()} | {
            "timestamp": (frame_index / self._fps).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.full(length, number),
            "index": self._num_rows + frame_index,
            "task_index": np.full(length, self._tasks.setdefault(task, len(self._tasks))),
        }
        row["data/chunk_index"], row["data/file_index"] = self._write_rows(table)
        for key in self._video_keys:
            row |= self._write_video(key, columns[key])
        stats = {k: episode_stats(v, self._features[k]["dtype"]) for k, v in table.items()}
        row |= {f"stats/{k}/{n}": v.tolist() for k, s in stats.items() for n, v in s.items()}
        self._num_rows += length
        self._episodes.append(row)
        self._stats.append(stats)

    def close(self, splits: Mapping[str, str] | None = None, **extra: Any) -> None:
        """Ends the dataset and moves it into place; `extra` are further keys of info.json."""
        if not self._episodes:
            raise ColaWorldError("A dataset needs at least one episode.")
        self._end_data_file()
        for key in self._video_keys:
            self._end_video(key)
        episodes = self._root / EPISODES_PATH.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), episodes)
        pq.write_table(_task_table(self._tasks), self._root / TASKS)
        stats = {
            key: {name: value.tolist() for name, value in merge_stats(parts).items()}
            for key in self._stats[0]
            if (parts := [episode[key] for episode in self._stats])
        }
        write_json(self._root / STATS, stats)
        info = {
            "codebase_version": VERSION,
            "robot_type": self._robot_type,
            "total_episodes": len(self._episodes),
            "total_frames": self._num_rows,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": self._data_mb,
            "video_files_size_in_mb": self._video_mb,
            "fps": self._fps,
            "splits": dict(splits or {"train": f"0:{len(self._episodes)}"}),
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._video_keys else None,
            "features": {k: self._describe(k, f) for k, f in self._features.items()},
            **extra,
        }
        write_json(self._root / INFO, info)
        for name in ("data", "videos", "meta"):
            if (self._root / name).exists():
                shutil.rmtree(self.path / name, ignore_errors=True)
                os.replace(self._root / name, self.path / name)
        self._root.rmdir()

    def _write_rows(self, table: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        arrays = [_to_arrow(table[field.name], field.type) for field in self._schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        if self._data_bytes and self._data_bytes + batch.nbytes > self._data_mb * 2**20:
            self._end_data_file()
            self._data_index += 1
        self._rows.append(batch)
        self._data_bytes += batch.nbytes
        if sum(len(rows) for rows in self._rows) >= ROWS_PER_GROUP:
            self._flush_rows()
        return divmod(self._data_index, FILES_PER_CHUNK)

    def _flush_rows(self) -> None:
        if self._data is None:
            path = self._file(DATA_PATH, self._data_index)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pq.ParquetWriter(path, self._schema)
        if self._rows:
            self._data.write_table(pa.Table.from_batches(self._rows).combine_chunks())
        self._rows = []

    def _end_data_file(self) -> None:
        self._flush_rows()
        if self._data is not None:
            self._data.close()
        self._data, self._data_bytes = None, 0

    def _write_video(self, key: str, frames: Frames) -> dict[str, int | float]:
        writer = self._videos.get(key)
        if writer is not None and writer.num_bytes > self._video_mb * 2**20:
            self._end_video(key)
            self._video_index[key] += 1
            writer = None
        if writer is None:
            height, width, _ = self._features[key]["shape"]
            path = self._file(VIDEO_PATH, self._video_index[key], video_key=key)
            writer = VideoWriter(path, height, width, self._fps, self._crf)
            self._videos[key] = writer
        start = writer.num_frames
        writer.append(frames)
        chunk, file = divmod(self._video_index[key], FILES_PER_CHUNK)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": start / self._fps,
            f"videos/{key}/to_timestamp": writer.num_frames / self._fps,
        }

    def _end_video(self, key: str) -> None:
        if key in self._videos:
            self._videos.pop(key).close()

    def _file(self, template: str, index: int, **names: str) -> Path:
        chunk, file = divmod(index, FILES_PER_CHUNK)
        return self._root / template.format(chunk_index=chunk, file_index=file, **names)

    def _describe(self, key: str, feature: dict[str, Any]) -> dict[str, Any]:
        described = {"dtype": feature["dtype"], "shape": list(feature["shape"])}
        if feature["dtype"] != "video":
            return described | {"names": feature["names"]}
        height, width, channels = feature["shape"]
        return described | {
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.channels": channels,
                "video.codec": "h264",
                "video.pix_fmt": PIXEL_FORMAT,
                "video.is_depth_map": False,
                "video.fps": self._fps,
                "has_audio": False,
            },
        }

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Throws away what `close()` has not moved into place."""
        for key in self._video_keys:
            self._end_video(key)
        if self._data is not None:
            self._data.close()
        shutil.rmtree(self._root, ignore_errors=True)


def _arrow_type(feature: Mapping[str, Any]) -> pa.DataType:
    kind = pa.from_numpy_dtype(np.dtype(feature["dtype"]))
    if list(feature["shape"]) == [1]:
        return kind
    for size in reversed(list(feature["shape"])):
        kind = pa.list_(kind, size)
    return kind


def _to_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values.reshape(-1), type=kind)
    inner = _to_arrow(values.reshape(-1, *values.shape[2:]), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(inner, type=kind)


def _task_table(tasks: dict[str, int]) -> pa.Table:
    """As pandas writes a frame with the task text as its index, which LeRobot reads back."""
    table = pa.table({"task_index": pa.array([*tasks.values()]), "task": pa.array([*tasks])})
    columns = [
        {"name": n, "field_name": n, "pandas_type": p, "numpy_type": t, "metadata": None}
        for n, p, t in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


Stats = dict[str, NDArray[np.float64]]


def episode_stats(values: NDArray[Any], dtype: str) -> Stats:
    """min, max, mean, std and count over time; a video's are per channel, in [0, 1], (3, 1, 1)."""
    axes: tuple[int, ...] = (0,)
    data = values.astype(np.float64)
    if dtype == "video":
        axes, data = (0, 2, 3), data.transpose(0, 3, 1, 2) / 255
    elif data.ndim == 1:
        data = data[:, None]
    keep = dtype == "video"
    stats = {
        "min": data.min(axes, keepdims=keep),
        "max": data.max(axes, keepdims=keep),
        "mean": data.mean(axes, keepdims=keep),
        "std": data.std(axes, keepdims=keep),
    }
    stats = {name: value[0] if keep else value for name, value in stats.items()}
    return stats | {"count": np.array([len(values)], np.float64)}


def merge_stats(parts: list[Stats]) -> Stats:
    """The statistics of the union, from those of its parts."""
    counts = np.stack([part["count"] for part in parts])
    means = np.stack([part["mean"] for part in parts])
    squares = np.stack([part["std"] for part in parts]) ** 2
    weights = (counts / counts.sum()).reshape(-1, *[1] * (means.ndim - 1))
    mean = (weights * means).sum(0)
    return {
        "min": np.stack([part["min"] for part in parts]).min(0),
        "max": np.stack([part["max"] for part in parts]).max(0),
        "mean": mean,
        "std": np.sqrt((weights * (squares + (means - mean) ** 2)).sum(0)),
        "count": counts.sum(0),
    }
