"""Training data from HDF5 files in the layouts of robomimic, VP2, LIBERO and ALOHA."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cola_env.errors import ColaWorldError
from cola_env.hdf5 import READING, has, open_file
from cola_train.data.demo_layouts import Aloha, Demo, Layout, Libero, Robomimic
from cola_train.data.episode_source import (
    DamagedFile,
    DamageReport,
    Entry,
    Extremes,
    Frames,
    choose_camera,
    read_extremes,
)
from cola_train.data.file_index import FileIndex

HDF5_SUFFIXES = (".hdf5", ".h5")


class DemoFiles:
    """The demonstrations of one or many files."""

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        index: Path,
        damage_report: DamageReport,
        camera: str | None = None,
    ) -> None:
        self.path = path
        found = FileIndex(path, scan_demos, index, damage_report).entries(files)
        self.entries = list(_of_one_camera(found, camera, path, damage_report))

    def frames(self, episode: int, start: int, stop: int, stride: int = 1) -> Frames:
        entry = self.entries[episode]
        with _demo(entry) as demo:
            images = demo.cameras[entry.camera].read(start, stop, stride)
        if len(images) != len(range(start, stop, stride)):
            raise DamagedFile(entry.file, f"{entry.key} has become shorter")
        return images

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        entry = self.entries[episode]
        with _demo(entry) as demo:
            assert demo.actions is not None, "its entry has an action_dim"
            first = demo.first_action
            actions = demo.actions[start + first : stop + first].astype(np.float32)
        if len(actions) != stop - start:
            raise DamagedFile(entry.file, f"{entry.key} has too few actions")
        return np.asarray(actions)

    def action_extremes(self) -> Extremes | None:
        return read_extremes(self)


@contextmanager
def _demo(entry: Entry) -> Iterator[Demo]:
    """The demo of an entry; what goes wrong in reading it is told as damage of its file."""
    try:
        with open_file(entry.file) as file:
            yield _layout(file).demo(entry.key)
    except (*READING, ColaWorldError) as error:
        raise DamagedFile(entry.file, error) from error


def _of_one_camera(
    entries: Sequence[Entry], camera: str | None, path: Path, damage_report: DamageReport
) -> Iterator[Entry]:
    """Of the entries of each demo the one of the camera that is read, unless it is damaged.

    Demos of the same cameras are read from the same one.
    """
    demos: dict[tuple[str, str], dict[str, Entry]] = {}
    for entry in entries:
        demos.setdefault((entry.file, entry.key), {})[entry.camera] = entry
    chosen: dict[tuple[str, ...], str] = {}
    for (file, key), cameras in demos.items():
        names = tuple(cameras)
        try:
            if names not in chosen:
                chosen[names] = "" if names == ("",) else choose_camera(names, camera, str(path))
        except ColaWorldError as error:
            damage_report.add(file, str(error).rstrip("."))
            continue
        entry = cameras[chosen[names]]
        if entry.damage:
            damage_report.add(f"{file}, {key}" if key else file, entry.damage)
        else:
            yield entry


def scan_demos(path: Path) -> list[Entry]:
    """The demos of a file, once for each camera. Raises DamagedFile."""
    try:
        with open_file(path) as file:
            layout = _layout(file)
            fps, splits = layout.fps, layout.splits
            if not (math.isfinite(fps) and fps > 0):
                raise ValueError(f"its frame rate, control_freq in env_args, is {fps:g}")
            return [
                entry
                for key in layout.keys()
                for entry in _entries(str(path), key, layout, fps, splits.get(key))
            ]
    except READING as error:
        raise DamagedFile(path, error) from error


def _layout(file: Any) -> Layout:
    if Aloha.fits(file):
        return Aloha(file)
    if has(file, "data"):
        return Libero(file) if Libero.fits(file) else Robomimic(file)
    raise ValueError("it is in none of the layouts of robomimic, VP2, LIBERO and ALOHA")


def _entries(file: str, key: str, layout: Layout, fps: float, split: str | None) -> Iterator[Entry]:
    """One for each camera of a demo; a demo that cannot be read has one without a camera."""
    try:
        demo = layout.demo(key)
        if not demo.cameras:
            raise ValueError("obs holds no images: a key that ends with 'image' or 'rgb'")
    except READING as error:
        yield Entry(file, key, 0, fps, 0, 0, damage=_reason(error))
        return
    for camera, pictures in demo.cameras.items():
        frames, height, width, action_dim, damage = 0, 0, 0, None, ""
        try:
            frames, (height, width) = len(pictures), pictures.size()
            pictures.check_values()
            action_dim = _check_actions(demo, frames)
        except (*READING, ColaWorldError) as error:
            damage = _reason(error)
        yield Entry(
            file,
            key,
            frames,
            fps,
            int(height),
            int(width),
            action_dim,
            split,
            layout.rendering,
            camera,
            damage,
        )


def _check_actions(demo: Demo, frames: int) -> int | None:
    """The size of an action. Raises ValueError where frames, actions and what the file says of
    their number contradict, and for actions that are no numbers."""
    actions = demo.actions
    counts = {frames, max(0, frames - 1)}
    if demo.length is not None and demo.length not in counts:
        raise ValueError(f"num_samples is {demo.length}, but it has {frames} frames")
    if actions is None:
        return None
    if actions.ndim != 2 or not actions.shape[1] or len(actions) not in counts:
        raise ValueError(
            f"{actions.name} are of shape {actions.shape}: {frames} frames need "
            f"{max(0, frames - 1)} or {frames} actions, (T, A)"
        )
    if actions.dtype.kind not in "uif":
        raise ValueError(f"{actions.name} are of type {actions.dtype}, not numbers")
    with np.errstate(over="ignore"):
        if not np.isfinite(actions[:].astype(np.float32)).all():
            raise ValueError(f"{actions.name} hold values that are not finite")
    return int(actions.shape[1])


def _reason(error: Exception) -> str:
    return (str(error.args[0] if error.args else "").splitlines() or [type(error).__name__])[0]
