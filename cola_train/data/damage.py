"""Files that cannot be read: each is named once, all are counted at the end, none stops a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from torch.utils.data import get_worker_info

from cola_env.errors import ColaWorldError


class DamagedFile(ColaWorldError):
    """A file that is missing, truncated or otherwise not what its index says."""

    def __init__(self, file: str | Path, reason: object) -> None:
        self.file = str(file)
        told = getattr(reason, "strerror", None) or str(reason)
        self.reason = (told.splitlines() or [type(reason).__name__])[0]
        super().__init__(f"The file {self.file} is damaged: {self.reason}")

    def __reduce__(self) -> tuple[type[DamagedFile], tuple[str, str]]:
        return type(self), (self.file, self.reason)


class Unreadable(ColaWorldError):
    """Nothing is left of a source that can be read."""


class Ledger:
    """The damaged files of a run and what is wrong with each.

    Warns at the first meeting with a file. A copy in a reader process stays silent: its ``news``
    are told to the one of the main process (``learn``), which warns.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._told = 0

    def add(self, file: str, reason: str) -> None:
        if file in self.files:
            return
        self.files[file] = reason
        if get_worker_info() is None:
            warnings.warn(f"{file} is damaged and skipped: {reason}", stacklevel=2)

    def news(self) -> dict[str, str]:
        """The files added since the last call."""
        fresh = dict(list(self.files.items())[self._told :])
        self._told = len(self.files)
        return fresh

    def learn(self, news: Mapping[str, str]) -> None:
        for file, reason in news.items():
            self.add(file, reason)

    def summary(self) -> str:
        """One sentence that counts and names the files; empty when there are none."""
        if not self.files:
            return ""
        names = ", ".join(list(self.files)[:5])
        more = f" and {len(self.files) - 5} more" if len(self.files) > 5 else ""
        return f"{len(self.files)} damaged file(s) were skipped: {names}{more}."
