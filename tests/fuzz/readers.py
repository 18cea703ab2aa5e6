"""Readers of training data: LeRobot folders, HDF5 files and videos that are damaged or lie.

Pixels and actions of the data say where they come from, so that a clip whose frames and actions
were taken from different places is found.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.data.sources import DataSources, LoadingConfig
from tests.fuzz.files import (
    Bytes,
    Files,
    bytes_of,
    damage,
    damaged,
    json_of,
    named,
    read_folder,
    written,
)
from tests.fuzz.judge import Refused, check, check_finite, read
from tests.fuzz.values import json_values, mostly, numbers, odd_numbers, scalars
from tests.train.conftest import numbered, write_demos, write_video

LENGTHS = (6, 9, 7)
SIDE = 16
FPS = 10
CLIP = 3


def told(length: int, first: int) -> NDArray[np.float32]:
    """Action t of an episode: frame ``first + t`` of all, in hundredths, and how many more."""
    rows = np.arange(first, first + length, dtype=np.float32)
    return np.stack([rows / 100, -rows / 100], 1)


@cache
def lerobot() -> Files:
    features = {
        "observation.image": {"dtype": "video", "shape": [SIDE, SIDE, 3]},
        "action": {"dtype": "float32", "shape": [2]},
    }
    with tempfile.TemporaryDirectory() as folder:
        with LeRobotWriter(folder, features=features, fps=FPS, robot_type="so100") as writer:
            frames, first = numbered(sum(LENGTHS), SIDE, SIDE), 0
            for length in LENGTHS:
                columns = {
                    "observation.image": frames[first : first + length],
                    "action": told(length, first),
                }
                writer.add_episode("task", columns, {})
                first += length
            writer.close({"train": "0:2", "test": "2:3"})
        return read_folder(Path(folder))


@cache
def demos() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        write_demos(Path(folder, "a.hdf5"), list(LENGTHS))
        return read_folder(Path(folder))


@cache
def videos() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.mp4", "b.webm", "c.mkv"):
            write_video(Path(folder, name), numbered(9, SIDE, SIDE), fps=FPS)
        return read_folder(Path(folder))


@dataclass(frozen=True)
class Column:
    """A column of the parquet file whose name contains `file`: row `row` set to `value`, or the
    whole column dropped, reversed, or given to another name."""

    file: str
    column: int
    how: str
    row: int
    value: Any

    def apply(self, files: Files) -> Files:
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = named(files, self.file)
        table = pq.read_table(io.BytesIO(files[name]))
        index = self.column % table.num_columns
        label, kind = table.column_names[index], table.column(index).type
        values = table.column(index).to_pylist()
        if self.how == "drop":
            table = table.remove_column(index)
        elif self.how == "rename":
            names = [f"{n}_" if n == label else n for n in table.column_names]
            table = table.rename_columns(names)
        else:
            if self.how == "reverse":
                values.reverse()
            else:
                values[self.row % len(values)] = self.value
            try:
                array = pa.array(values, kind)
            except (pa.ArrowException, OverflowError, TypeError):
                array = pa.array([str(v) for v in values])
            table = table.set_column(index, label, array)
        sink = io.BytesIO()
        pq.write_table(table, sink)
        return files | {name: sink.getvalue()}


@dataclass(frozen=True)
class Node:
    """An item of the HDF5 file: given another content, or deleted, or an attribute set."""

    item: int
    how: str
    value: Any

    def apply(self, files: Files) -> Files:
        import h5py

        name = named(files, "hdf5")
        memory = io.BytesIO(files[name])
        with h5py.File(memory, "r+") as file:
            items: list[str] = []
            file.visit(items.append)
            place = items[self.item % len(items)]
            if self.how == "attribute":
                key = [*file["data"].attrs][self.item % 2]
                file["data"].attrs[key] = str(self.value)
            else:
                old = file[place]
                shape, dtype = getattr(old, "shape", (3,)), getattr(old, "dtype", np.dtype("f4"))
                del file[place]
                if self.how == "replace":
                    file[place] = self.value.make()
                elif self.how == "cast":
                    file[place] = np.zeros(shape, dtype).astype(self.value.dtype)
        return files | {name: memory.getvalue()}


@dataclass(frozen=True)
class DataSet:
    """What lies in a folder, what was done to it, and how it is read."""

    kind: str
    changes: list[Any]
    loading: dict[str, Any]


loading = mostly(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "fps": mostly(st.sampled_from([5.0, 10.0, 30.0]), odd_numbers),
            "action_range": mostly(st.sampled_from([[-1.0, 1.0], [-180, 180]]), scalars),
            "memory_gb": mostly(st.sampled_from([0.0, 1.0]), odd_numbers),
        },
    ),
)
columns = st.builds(
    Column,
    st.sampled_from(["meta/episodes", "meta/tasks", "data/chunk"]),
    st.integers(0, 60),
    st.sampled_from(["set", "set", "set", "reverse", "drop", "rename"]),
    st.integers(0, 21),
    json_values,
)
nodes = st.builds(
    Node,
    st.integers(0, 30),
    st.sampled_from(["replace", "cast", "delete"]),
    mostly(numbers((6, 8, 8, 3), ("uint8", "float32", "uint16")), numbers((6, 5)), 2),
) | st.builds(Node, st.integers(0, 30), st.just("attribute"), json_values)

SOURCES = {"lerobot": lerobot, "hdf5": demos, "video": videos}
CHANGES = {
    "lerobot": damage(
        columns,
        json_of("meta/info.json", "meta/stats.json"),
        bytes_of("meta/info", "meta/stats", "meta/tasks", "meta/episodes", "data/", ".mp4"),
    ),
    "hdf5": damage(nodes, bytes_of("hdf5")),
    "video": damage(bytes_of("mp4", "webm", "mkv")),
}


def data_sets(kind: str) -> st.SearchStrategy[DataSet]:
    return st.builds(DataSet, st.just(kind), CHANGES[kind], loading)


def attempt(data_set: DataSet) -> bool:
    """Whether clips came out."""
    with (
        written(damaged(SOURCES[data_set.kind](), data_set.changes)) as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        drawn = read(clips, folder, data_set.loading)
    if isinstance(drawn, Refused):
        return False
    for batch in drawn:
        check(batch.frames.dtype == torch.uint8, f"frames of {batch.frames.dtype}")
        check(batch.frames.shape[-3:] == (SIDE, SIDE, 3), f"frames of {tuple(batch.frames.shape)}")
        check_finite(batch.actions, "the actions")
        check(not batch.actions.numel() or batch.actions.abs().max() <= 1.001, "actions beyond 1")
        if data_set.kind == "lerobot" and _only_metadata(data_set):
            _check_alignment(batch)
    return True


def clips(folder: Path, given: dict[str, Any]) -> list[Any]:
    """As a training reads them: clips of "train" and "test"."""
    config = LoadingConfig(**({"workers": 0, "index": str(folder.parent / "index")} | given))
    sources = DataSources(str(folder), config)
    sources.check_actions()
    generator = torch.Generator().manual_seed(0)
    return [
        sources.split(name, SIDE).sample(4, CLIP, generator)
        for name in ("train", "test")
        if sources.num_episodes(name)
    ]


def _only_metadata(data_set: DataSet) -> bool:
    """Whether the frames and the actions themselves are as they were, and are not scaled."""
    changed = [c.file for c in data_set.changes]
    bytes_changed = any(isinstance(c, Bytes) for c in data_set.changes)
    return (
        not bytes_changed
        and not any("data/" in name for name in changed)
        and not {"action_range", "fps"} & data_set.loading.keys()
    )


def _check_alignment(batch: Any) -> None:
    """Frame t is the one that action t was taken at, and the frames follow each other."""
    shown = (batch.frames[..., 0].float().mean((-2, -1)) - 20) / 4
    if batch.actions.numel():
        said = batch.actions[..., 0] * 100
        apart = (shown[:, : said.shape[1]] - said).abs().max()
        check(apart < 0.8, f"frames lie {apart:.1f} steps from their actions")
    steps = shown.diff(dim=1)
    check((steps - 1).abs().max() < 0.8, f"frames do not follow each other: {steps.tolist()}")
