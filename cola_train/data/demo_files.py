"""Training data from HDF5 files in the layout of robomimic and VP2.

    data/demo_{i}/obs/{camera}_image    (T, H, W, 3), 0 to 255; VP2's RoboDesk: camera_image
    data/demo_{i}/actions               (T, A) or (T - 1, A); the last of T leads to no frame
    data, attribute env_args            JSON; env_kwargs.control_freq is the frame rate
    mask/{train, valid, test}           names of demos

Frame t is before action t. Other contents (states, rewards, goals) are not read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_train.data.damage import DamagedFile, Ledger
from cola_train.data.episodes import Entry, Extremes, read_extremes
from cola_train.data.file_index import FileIndex
from cola_train.data.video import Frames

SUFFIXES = (".hdf5", ".h5")
FPS = 10.0
"""Of files that name no control frequency: RoboDesk's under VP2's action repeat of 50."""
READING = (OSError, KeyError, ValueError, RuntimeError, AttributeError, TypeError)


class DemoFiles:
    """The demonstrations of one or many files."""

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        index: Path,
        ledger: Ledger,
        camera: str | None = None,
    ) -> None:
        self.path = path
        self.entries = FileIndex(path, scan, index, ledger).entries(files)

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        entry = self.entries[episode]
        try:
            with _open(entry.file) as file:
                observations = file["data"][entry.key]["obs"]
                images = observations[_camera(observations)][start:stop:stride]
        except READING as error:
            raise DamagedFile(entry.file, error) from error
        if len(images) != len(range(start, stop, stride)):
            raise DamagedFile(entry.file, f"{entry.key} has become shorter")
        if images.dtype != np.uint8:
            images = images.round().clip(0, 255).astype(np.uint8)
        return np.asarray(images)

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        entry = self.entries[episode]
        try:
            with _open(entry.file) as file:
                actions = file["data"][entry.key]["actions"][start:stop].astype(np.float32)
        except READING as error:
            raise DamagedFile(entry.file, error) from error
        if len(actions) != stop - start:
            raise DamagedFile(entry.file, f"{entry.key} has too few actions")
        return np.asarray(actions)

    def action_extremes(self) -> Extremes | None:
        return read_extremes(self)


def scan(path: Path) -> list[Entry]:
    """The demos of a file in the order of their numbers."""
    try:
        with _open(path) as file:
            data = file["data"]
            environment = json.loads(data.attrs.get("env_args", "{}"))
            fps = float(environment.get("env_kwargs", {}).get("control_freq", FPS))
            rendering = "vp2" if "robodesk" in str(environment).lower() else None
            splits = _splits(file)
            return [
                _entry(path, name, data[name], fps, splits.get(name), rendering)
                for name in sorted(data, key=_number)
            ]
    except READING as error:
        raise DamagedFile(path, error) from error


def _entry(
    path: Path, name: str, demo: Any, fps: float, split: str | None, rendering: str | None
) -> Entry:
    images = demo["obs"][_camera(demo["obs"])]
    frames, height, width, colours = images.shape
    if colours != 3:
        raise ValueError(f"{images.name} has shape {images.shape}: frames are RGB, (T, H, W, 3)")
    if images.dtype.kind == "f" and frames and 0 < images[0].max() <= 1:
        raise ValueError(f"{images.name} is in [0, 1]: frames are uint8, or numbers from 0 to 255")
    action_dim = None
    if "actions" in demo:
        actions = demo["actions"]
        if actions.ndim != 2 or len(actions) < frames - 1:
            raise ValueError(
                f"{actions.name} are of shape {actions.shape}: {frames} frames need at least "
                f"{frames - 1} actions, (T, A)"
            )
        action_dim = int(actions.shape[1])
    return Entry(
        str(path), name, int(frames), fps, int(height), int(width), action_dim, split, rendering
    )


def _camera(observations: Any) -> str:
    for name in sorted(observations):
        if name.endswith("image") and observations[name].ndim == 4:
            return str(name)
    raise ValueError("obs holds no images: a key that ends with 'image', of shape (T, H, W, 3)")


def _splits(file: Any) -> dict[str, str]:
    """ "train" or "test" by demo, from the masks; "valid" counts as "test"."""
    splits: dict[str, str] = {}
    for mask, split in (("train", "train"), ("valid", "test"), ("test", "test")):
        if mask in file.get("mask", {}):
            splits.update((name.decode(), split) for name in file["mask"][mask][:])
    return splits


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else 0, name)


def _open(path: str | Path) -> Any:
    import h5py

    return h5py.File(path, "r")
