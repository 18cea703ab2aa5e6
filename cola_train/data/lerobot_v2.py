"""The metadata of the LeRobot layouts v2.0 and v2.1 as those of v3, see `cola_train.data.lerobot`.

meta/episodes.jsonl                               one line an episode: number, length, tasks
meta/tasks.jsonl                                  one line a task: task_index, task
data/chunk-000/episode_000000.parquet             one row a frame, an episode a file
videos/chunk-000/{key}/episode_000000.mp4         an episode a file
"""

import json
from pathlib import Path
from typing import Any

from cola_env.errors import ColaWorldError

EPISODES, TASKS = "meta/episodes.jsonl", "meta/tasks.jsonl"
CHUNK = 1000
"""Episodes a chunk where info.json does not say."""


def is_v2(info: dict[str, Any]) -> bool:
    return str(info["codebase_version"]).startswith("v2.")


def read_episodes(path: Path, info: dict[str, Any]) -> list[dict[str, Any]]:
    """One row an episode; that its files are its own makes the number of a file its number.

    Raises ColaWorldError when the file is missing or damaged.
    """
    rows = _lines(path / EPISODES)
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    try:
        for row in rows:
            number = int(row["episode_index"])
            row |= {f"videos/{camera}/from_timestamp": 0.0 for camera in cameras}
            for place in ("data", *(f"videos/{camera}" for camera in cameras)):
                row[f"{place}/chunk_index"] = number // int(info.get("chunks_size", CHUNK))
                row[f"{place}/file_index"] = number
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _damaged(path / EPISODES, error) from error
    return rows


def read_tasks(path: Path) -> dict[int, str]:
    """The text of each task by its number."""
    try:
        return {int(row["task_index"]): str(row["task"]) for row in _lines(path / TASKS)}
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path / TASKS, error) from error


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise ColaWorldError(f"The file {file} is missing: fetch the dataset again.") from error
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ColaWorldError:
    return ColaWorldError(f"The file {file} is damaged ({error!r}): fetch the dataset again.")
