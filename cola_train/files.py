"""A model's folder: one that has a ``config.json`` is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cola_env.files import sync

UNFINISHED = "unfinished.tmp"


def write_folder(out: Path, write: Callable[[Path], Any]) -> None:
    """``write`` files to a folder of their own, from where they move into ``out`` once all of them
    are on disk. Nothing of a write that fails stays behind."""
    partial = out / UNFINISHED
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        replace_files(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_files(source: Path, out: Path) -> None:
    """Move the files of ``source`` into ``out``, each atomically, ``config.json`` last."""
    files = sorted(source.iterdir(), key=lambda file: file.name == "config.json")
    for file in files:
        sync(file)
    for file in files:
        os.replace(file, out / file.name)
    sync(out)
