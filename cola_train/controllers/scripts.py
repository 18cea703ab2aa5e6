"""What the scripts of all worlds have in common."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

Script = TypeVar("Script")


class Scripted(Protocol):
    """A controller that goes through a script; the action after it has ``finished`` begins anew.

    picked: whether a planning problem may begin at its last action: what is to be placed is held.
    """

    @property
    def picked(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    def act(self) -> np.ndarray: ...


def find_script(scripts: dict[str, Callable[[], Script]], task: str) -> Script:
    """The script for ``task``; ValueError, naming those there are, when there is none."""
    if task not in scripts:
        raise ValueError(f"no script for {task!r}; choose one of {', '.join(scripts)}.")
    return scripts[task]()
