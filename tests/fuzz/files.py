"""Damage to files: bytes, JSON, and whatever else a format can be made to say."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.values import json_values

Files = dict[str, bytes]
"""The files of a folder by their paths in it."""


def read_folder(folder: Path) -> Files:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def written(files: Files) -> Iterator[Path]:
    """A folder for a while, two levels below one of its own, so that `..` leads nowhere real."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top, "data", "set")
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield folder


@dataclass(frozen=True)
class Bytes:
    """Damage to the bytes of the file whose name contains `file`: `where` is a share of its length,
    `how` "flip" (with XOR `value`), "cut", "zeros", "insert", "swap" (another file's content),
    "empty" or "delete"."""

    file: str
    how: str
    where: float = 0.5
    value: int = 1

    def apply(self, files: Files) -> Files:
        name = named(files, self.file)
        content = files[name]
        at = min(int(self.where * len(content)), max(0, len(content) - 1))
        if self.how == "delete":
            return {key: value for key, value in files.items() if key != name}
        changed = {
            "flip": content[:at] + bytes(b ^ self.value for b in content[at : at + 1])
            + content[at + 1 :],
            "cut": content[:at],
            "zeros": content[:at] + bytes(len(content[at : at + 64])) + content[at + 64 :],
            "insert": content[:at] + bytes([self.value] * 3) + content[at:],
            "swap": files[sorted(files)[self.value % len(files)]],
            "empty": b"",
        }[self.how]  # fmt: skip
        return files | {name: changed}


@dataclass(frozen=True)
class Json:
    """A JSON file with its `node`-th value replaced by `value`, or without it."""

    file: str
    node: int
    value: Any = None
    drop: bool = False

    def apply(self, files: Files) -> Files:
        name = named(files, self.file)
        document = json.loads(files[name])
        places = list(_places(document))
        parent, key = places[self.node % len(places)]
        if self.drop:
            del parent[key]
        else:
            parent[key] = self.value
        return files | {name: json.dumps(document).encode()}


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Container and key of every value of a document."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def named(files: Files, part: str) -> str:
    return next(name for name in files if part in name)


def bytes_of(*names: str) -> st.SearchStrategy[Bytes]:
    return st.builds(
        Bytes,
        st.sampled_from(names),
        st.sampled_from(
            ["flip"] * 6 + ["cut", "cut", "zeros", "insert", "swap", "empty", "delete"]
        ),
        st.floats(0, 1, exclude_max=True) | st.floats(0, 0.05),
        st.integers(1, 255),
    )


def json_of(*names: str) -> st.SearchStrategy[Json]:
    return st.builds(
        Json,
        st.sampled_from(names),
        st.integers(0, 200),
        json_values,
        st.sampled_from([0, 0, 0, 1]),
    )


def damage(*kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of(*kinds), min_size=1, max_size=2)


def damaged(files: Files, changes: list[Any]) -> Files:
    """The files after the changes; one for which there is nothing left to change is left out."""
    for change in changes:
        with suppress(Exception):
            files = change.apply(files)
    return files
