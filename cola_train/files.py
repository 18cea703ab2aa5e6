"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(file: Path, write: Callable[[Path], Any]) -> None:
    """``write`` to a file of another name, which then takes the place of ``file``."""
    target = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    write(target)
    os.replace(target, file)


def replace_files(source: Path, out: Path) -> None:
    """Move the files of ``source`` into ``out``, each atomically, ``config.json`` last: a model's
    folder that has one is whole."""
    for file in sorted(source.iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, out / file.name)


def sync(path: Path) -> None:
    """Returns when the file, or the folder's list of files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
