"""What is in the files of a folder, remembered: each is opened once, until it changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cola_env.files import write_text
from cola_train.console import progress_bar
from cola_train.data.episode_source import DamagedFile, DamageReport, Entry

VERSION = 3


def default_folder() -> Path:
    """Where indexes are kept: ``$XDG_CACHE_HOME/colaworld/index`` or below ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "colaworld" / "index"


@dataclass(frozen=True)
class FileIndex:
    """What the files below ``root`` hold.

    Attributes:
        scan: what a file holds, from its metadata, as dataclasses of plain values, such as its
            episodes; raises DamagedFile.
        folder: where the index file (JSON) is kept; written atomically, also when interrupted.
    """

    root: Path
    scan: Callable[[Path], Sequence[Any]]
    folder: Path
    damage_report: DamageReport

    @property
    def file(self) -> Path:
        name = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:16]
        return self.folder / f"{name}.json"

    def entries(self, files: Sequence[Path]) -> list[Entry]:
        """The episodes of ``files``, see ``contents``."""
        return [Entry(**values) for values in self.contents(files)]

    def contents(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        """The fields of what ``files`` hold, in their order; files of unchanged size and time are
        not opened again. Damaged ones go to the damage_report."""
        known = self._load()
        fresh = [file for file in files if known.get(str(file), {}).get("stamp") != _stamp(file)]
        if fresh:
            known = {str(file): known[str(file)] for file in files if str(file) in known}
            pool = ThreadPoolExecutor(4)
            try:
                records = pool.map(self._record, fresh)
                bar = progress_bar(
                    records, f"indexing {self.root}", total=len(fresh), unit="file", leave=False
                )
                for file, record in zip(fresh, bar, strict=True):
                    known[str(file)] = record
            finally:
                pool.shutdown(cancel_futures=True)
                self._save(known)
        found: list[dict[str, Any]] = []
        for name in map(str, files):
            if known[name]["damage"] is not None:
                self.damage_report.add(name, known[name]["damage"])
            found += known[name]["episodes"]
        return found

    def _record(self, file: Path) -> dict[str, Any]:
        stamp = _stamp(file)
        try:
            episodes = [asdict(entry) for entry in self.scan(file)]
            return {"stamp": stamp, "episodes": episodes, "damage": None}
        except DamagedFile as error:
            return {"stamp": stamp, "episodes": [], "damage": error.reason}

    def _load(self) -> dict[str, Any]:
        try:
            stored = json.loads(self.file.read_text())
            return dict(stored["files"]) if stored["version"] == VERSION else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _save(self, files: dict[str, Any]) -> None:
        index = {"version": VERSION, "root": str(self.root), "files": files}
        write_text(self.file, json.dumps(index) + "\n")


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
