"""Recorded episodes on their way into a dataset: one file each, written atomically."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.files import write_atomically
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.episodes import WorldSpec

Part = dict[str, NDArray[Any]]


def part_file(folder: Path, number: int) -> Path:
    return folder / f"episode-{number:06d}.npz"


def save_part(file: Path, episode: dict[str, Any], spec: WorldSpec) -> None:
    """Writes what `record_episode` returned and the simulator that it comes from."""
    about = {"plan": episode["plan"], "spec": asdict(spec)}
    arrays = {name: value for name, value in episode.items() if name != "plan"}

    def write(target: Path) -> None:
        with target.open("wb") as stream:
            np.savez_compressed(stream, about=np.array(json.dumps(about)), **arrays)

    write_atomically(file, write)


def load_part(file: Path) -> tuple[Part, dict[str, Any], WorldSpec]:
    """The arrays, the plan and the simulator; raises ColaWorldError for a damaged file."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            part = dict(stored)
        about = json.loads(str(part.pop("about")))
        return part, about["plan"], WorldSpec(**about["spec"])
    except Exception as error:
        raise ColaWorldError(
            f"The episode file {file} is damaged ({error}): delete it and run the command again."
        ) from error


def merge_parts(
    files: Iterable[Path], out: Path, splits: dict[str, str], settings: dict[str, Any]
) -> None:
    """Makes the LeRobot v3 dataset `out` of episode files; `settings` go into its info.json.

    An episode of T steps becomes T + 1 rows: the last one holds the final frame and state, a zero
    action, and again the reward and successes of the row before.
    """
    iterator = iter(files)
    part, plan, spec = load_part(next(iterator))
    with LeRobotWriter(
        out,
        features=_features(part, spec),
        fps=spec.fps,
        robot_type=spec.robot_type,
        overwrite=True,
    ) as writer:
        writer.add_episode(plan["policy"], _columns(part), plan)
        for file in iterator:
            part, plan, _ = load_part(file)
            writer.add_episode(plan["policy"], _columns(part), plan)
        writer.close(splits, **settings, tasks=list(spec.tasks))


def _features(part: Part, spec: WorldSpec) -> dict[str, dict[str, Any]]:
    def vector(dtype: str, size: int, names: tuple[str, ...] | None = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [size], "names": names and list(names)}

    return {
        "observation.image": {"dtype": "video", "shape": list(part["frames"].shape[1:])},
        "observation.state": vector("float64", part["states"].shape[1]),
        "action": vector("float32", part["actions"].shape[1], spec.actions),
        "next.reward": vector("float32", 1),
        "next.successes": vector("bool", len(spec.tasks), spec.tasks),
    }


def _columns(part: Part) -> Part:
    return {
        "observation.image": part["frames"],
        "observation.state": part["states"],
        "action": np.concatenate([part["actions"], np.zeros_like(part["actions"][:1])]),
        "next.reward": np.concatenate([part["rewards"], part["rewards"][-1:]]),
        "next.successes": np.concatenate([part["successes"], part["successes"][-1:]]),
    }
