"""The files of a LeRobot folder besides its videos: what it says of itself, and its tables.

The layouts v2.0 and v2.1 are read as v3.0; they differ in

    meta/episodes.jsonl                               one line an episode: number, length, tasks
    meta/tasks.jsonl                                  one line a task: task_index, task
    data/chunk-000/episode_000000.parquet             one row a frame, an episode a file
    videos/chunk-000/{key}/episode_000000.mp4         an episode a file
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_train.data.episode_source import DamagedFile

try:
    import pyarrow as pa
    import pyarrow.compute as pc
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
PICTURES = ("video", "image")
NOTES = ("info", "video_info")
"""Where a feature may say more of itself."""


def read_info(path: Path) -> dict[str, Any]:
    """Raises ColaWorldError when there is none, or it says what cannot be or is not read."""
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
    if fault := _fault(info):
        raise ColaWorldError(f"{path / INFO} is damaged: {fault}; fetch the dataset again.")
    version = str(info["codebase_version"])
    if not (version.startswith("v3.") or is_v2(info)):
        raise ColaWorldError(
            f"{path} is in the LeRobot layout {version}; v3.0, v2.1 and v2.0 are read: convert it "
            "with the scripts of lerobot."
        )
    return info


def _fault(info: Any) -> str:
    """What info.json says that cannot be, or does not say; "" when it is right."""
    if not isinstance(info, dict):
        return "it is no mapping"
    missing = {"codebase_version", "features", "fps", "data_path", "total_episodes"} - info.keys()
    if missing:
        return f"it lacks {sorted(missing)}"
    fps, features = info["fps"], info["features"]
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        return f"fps is {fps}, no positive number"
    if not isinstance(info["total_episodes"], int) or info["total_episodes"] < 1:
        return f"total_episodes is {info['total_episodes']}, no positive number"
    if not isinstance(features, dict):
        return "its features are no mapping"
    for name, feature in features.items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
            return f"its feature {name!r} has no shape, a list of positive numbers"
        if "dtype" not in feature or (feature["dtype"] in PICTURES and len(shape) != 3):
            return f"its feature {name!r} has no dtype, or pictures have not three axes"
    return ""


def image_shape(feature: dict[str, Any]) -> tuple[int, int, int]:
    """Height, width, channels of pictures declared (H, W, C) or (C, H, W)."""
    one, two, three = feature["shape"]
    names = feature.get("names")
    channels_first, channels_last = one in (1, 3), three in (1, 3)
    if channels_first == channels_last:  # the numbers do not tell
        channels_first = isinstance(names, list) and str(names[:1]).startswith("['channel")
    return (two, three, one) if channels_first else (one, two, three)


def is_camera(feature: dict[str, Any]) -> bool:
    """Whether it is of colour pictures; those of one channel, or said to be so, are depth maps."""
    told = [t for t in (feature, *map(feature.get, NOTES)) if isinstance(t, dict)]
    is_depth = any(t.get("is_depth_map") or t.get("video.is_depth_map") for t in told)
    return feature["dtype"] in PICTURES and not is_depth and image_shape(feature)[2] != 1


def read_episodes(path: Path, info: dict[str, Any], camera: str) -> list[dict[str, Any]]:
    """One row an episode, in the order of their numbers, with the places of its rows and of its
    frames of ``camera``. Raises ColaWorldError for one that lacks some, or says what cannot be."""
    if is_v2(info):
        rows = _read_v2_episodes(path, info)
    else:
        rows = []
        for file in sorted((path / "meta" / "episodes").glob("*/*.parquet")):
            names = [n for n in column_names(file) if not n.startswith("stats/")]
            rows += read_table(file, names).to_pylist()
    try:
        rows.sort(key=lambda row: row["episode_index"])
        numbers = [row["episode_index"] for row in rows]
        whole = all(isinstance(row["length"], int) and row["length"] > 0 for row in rows)
        firsts = [row.get("dataset_from_index", 0) for row in rows]
        whole = whole and all(isinstance(first, int) for first in firsts)
        if info["features"][camera]["dtype"] == "video":
            times = [row[f"videos/{camera}/from_timestamp"] for row in rows]
            ends = [row.get(f"videos/{camera}/to_timestamp") for row in rows]
            times += [end for end in ends if end is not None]
            whole = whole and all(0 <= time < math.inf for time in times)
    except (KeyError, TypeError) as error:
        raise ColaWorldError(
            f"{path} is damaged: its list of episodes lacks {error}; fetch it again."
        ) from error
    if numbers != [*range(info["total_episodes"])] or not whole:
        raise ColaWorldError(
            f"{path} is incomplete: info.json counts {info['total_episodes']} episodes, its list "
            f"of episodes holds {len(rows)}, or numbers, lengths or times that cannot be; fetch "
            "the dataset again."
        )
    return rows


def read_tasks(path: Path, info: dict[str, Any]) -> dict[int, str]:
    """The text of each task by its number."""
    if is_v2(info):
        return _read_v2_tasks(path)
    rows = read_table(path / TASKS).to_pylist()
    with _damage_told(path / TASKS, KeyError, IndexError, TypeError):
        return {row.pop("task_index"): str([*row.values()][0]) for row in rows}


V2_EPISODES, V2_TASKS = "meta/episodes.jsonl", "meta/tasks.jsonl"
V2_CHUNK = 1000
"""Episodes a chunk where info.json does not say."""


def is_v2(info: dict[str, Any]) -> bool:
    return str(info["codebase_version"]).startswith("v2.")


def _read_v2_episodes(path: Path, info: dict[str, Any]) -> list[dict[str, Any]]:
    """One row an episode; that its files are its own makes the number of a file its number.

    Raises ColaWorldError when the file is missing or damaged.
    """
    rows = _lines(path / V2_EPISODES)
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    with _damage_told(path / V2_EPISODES, KeyError, TypeError, ValueError, ZeroDivisionError):
        for row in rows:
            number = int(row["episode_index"])
            row |= {f"videos/{camera}/from_timestamp": 0.0 for camera in cameras}
            for place in ("data", *(f"videos/{camera}" for camera in cameras)):
                row[f"{place}/chunk_index"] = number // int(info.get("chunks_size", V2_CHUNK))
                row[f"{place}/file_index"] = number
    return rows


def _read_v2_tasks(path: Path) -> dict[int, str]:
    """The text of each task by its number."""
    rows = _lines(path / V2_TASKS)
    with _damage_told(path / V2_TASKS, KeyError, TypeError, ValueError):
        return {int(row["task_index"]): str(row["task"]) for row in rows}


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise ColaWorldError(f"The file {file} is missing: fetch the dataset again.")
    with _damage_told(file, OSError, ValueError):
        return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]


PLACES = ("index", "episode_index", "frame_index", "timestamp")
"""The columns of LeRobot that say which frame of which episode a row is: one number a row."""


def data_columns(file: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The columns ``names``, (rows,) or (rows, ...). Raises DamagedFile when one is missing or is
    not of numbers or lists of one length."""
    return _columns(file, file.stat().st_mtime_ns if file.exists() else 0, names)


def column_names(file: Path) -> list[str]:
    return list(_parquet(file).schema_arrow.names)


@lru_cache(maxsize=4)
def _columns(file: Path, modified: int, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    there = column_names(file)
    if missing := [name for name in names if name not in there]:
        raise DamagedFile(file, f"it lacks the columns {missing}: fetch the dataset again")
    table = read_table(file, [*names])
    with _damage_told(file, ValueError):
        columns = {name: _to_numpy(table.column(name)) for name in names}
        for name in PLACES:
            if columns[name].ndim != 1 or columns[name].dtype.kind not in "iuf":
                raise ValueError(f"its column {name!r} is not of one number a row")
    return columns


def read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Raises DamagedFile."""
    parquet = _parquet(file)
    with _damage_told(file, pa.ArrowException, OSError, ValueError):
        return parquet.read(columns)


def _parquet(file: Path) -> pq.ParquetFile:
    if not file.is_file():
        raise DamagedFile(file, "it is missing: fetch the dataset again")
    with _damage_told(file, pa.ArrowException, OSError, ValueError):
        return pq.ParquetFile(file)


@contextmanager
def _damage_told(file: Path, *kinds: type[Exception]) -> Iterator[None]:
    """What of these ``kinds`` goes wrong is damage of the file."""
    try:
        yield
    except kinds as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        fault = f"it lacks {told}" if isinstance(error, KeyError) else told
        raise DamagedFile(file, f"{fault}: fetch the dataset again") from error


def _to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers or of lists, lists of lists, ... of one length."""
    values = column.combine_chunks()
    shape = [len(values)]
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise ValueError(f"a column has rows of different lengths {lengths}")
        shape += lengths or [0]
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False).reshape(shape)
    return array[:, 0] if shape[1:] == [1] else array
