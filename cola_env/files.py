"""Files that are either whole or not there, and those that a user downloads, checked before use."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from platform import node
from typing import Any

import numpy as np

from cola_env.errors import ColaWorldError


def write_atomically(file: Path, write: Callable[[Path], Any]) -> None:
    """``write`` to a file of another name, which takes the place of ``file`` once all of it is on
    disk. Nothing of a write that fails stays behind; what a killed process left in the folder goes
    with the next write there. The folder is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(file.parent)
    target = file.with_name(f"{file.name}.{node()}.{os.getpid()}.tmp")
    try:
        write(target)
        sync(target)
        os.replace(target, file)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    sync(file.parent)


def write_text(file: Path, text: str) -> None:
    """Write a text file so that a reader sees all of it or none."""
    write_atomically(file, lambda target: target.write_text(text, encoding="utf-8"))


def write_json(file: Path, value: Any) -> None:
    """Write a text file of JSON so that a reader sees all of it or none."""
    write_text(file, json.dumps(value, indent=1) + "\n")


def write_arrays(file: Path, compress: bool = True, **arrays: Any) -> None:
    """Write an npz so that a reader sees all of it or none."""

    def write(target: Path) -> None:
        with target.open("wb") as stream:  # of a name, numpy would make another
            (np.savez_compressed if compress else np.savez)(stream, **arrays)

    write_atomically(file, write)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that are gone were about to write in ``folder``."""
    mine = re.compile(rf".+\.{re.escape(node())}\.(\d+)\.tmp")
    for name in os.listdir(folder):
        if (found := mine.fullmatch(name)) and not _lives(int(found[1])):
            (folder / name).unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sync(path: Path) -> None:
    """Returns when the file, or the folder's list of files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_user_file(path: str | Path, what: str, sha256: str | None = None) -> Path:
    """``path`` if it is a file whose SHA-256 begins with ``sha256`` (hexadecimal; None: any).

    Raises ColaWorldError, which calls it ``what`` ("LPIPS needs ..."), otherwise.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ColaWorldError(f"{file} does not exist: {what}, which you have to download yourself.")
    if sha256 is not None:
        with open(file, "rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if not found.startswith(sha256.lower()):
            raise ColaWorldError(
                f"{file} has the SHA-256 {found[:16]}..., not {sha256}: it is another file or "
                "damaged, download it again."
            )
    return file
