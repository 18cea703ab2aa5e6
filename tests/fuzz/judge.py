"""What counts as a failure, whatever the boundary."""

from __future__ import annotations

import linecache
import math
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cola_env", "cola_train", "planners")
SPEAKERS = (*(str(ROOT / package) for package in PACKAGES), str(Path(gymnasium.__file__).parent))
"""Whose errors are meant for the caller."""
WORDS = range(4, 121)
SECONDS = 20
MEMORY = 4 * 2**30
"""What an input may take beyond what the process has."""


class Fault(Exception):
    """A failure; `place` is where, in our code, it came from."""

    def __init__(self, what: str, place: str = "") -> None:
        super().__init__(what)
        self.what, self.place = what, place


class TooSlow(BaseException):
    """No `except Exception` keeps it."""


@dataclass(frozen=True)
class Refused:
    """An input was told of in a sentence."""

    sentence: str


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the function returns, or Refused; a Fault when it fails in any other way.

    Arguments of a wrong type may meet Python's own TypeError.
    """
    return _judged(function, (ValueError, gymnasium.error.Error), args, kwargs)


def read(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The same of a function that reads files, where whatever is wrong must be told by us."""
    return _judged(function, (ValueError, TypeError, gymnasium.error.Error), args, kwargs)


def _judged(function: Callable[..., Any], ours: tuple[type, ...], args: Any, kwargs: Any) -> Any:
    """`ours`: errors that only a `raise` of ours may bring."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)
    except Exception as error:
        complaint = complaint_about(error, ours)
        if complaint:
            raise Fault(complaint, place(error)) from error
        return Refused(str(error))


def complaint_about(error: Exception, ours: tuple[type, ...]) -> str | None:
    """What is wrong with how an input was refused."""
    text = str(error).split(" was raised from the environment creator")[0]  # as gym.make goes on
    shown = f"{type(error).__name__}: {text[:300]}"
    if not isinstance(error, ValueError | TypeError | gymnasium.error.Error):
        return shown
    if isinstance(error, ours) and not _is_raised_by_us(error):
        return f"not ours: {shown}"
    if "\n" in text.strip() or len(text.split()) not in WORDS:
        return f"not one sentence: {shown}"
    return None


def _is_raised_by_us(error: BaseException) -> bool:
    """Whether the error comes from a `raise` of ours, and not from what the input met in there."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return frame.filename.startswith(SPEAKERS) and line.startswith("raise")


def place(error: BaseException) -> str:
    """file:line of the last step in our packages."""
    ours = [
        f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(SPEAKERS[:-1])
    ]
    return ours[-1] if ours else ""


@contextmanager
def limits(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """A Fault for what takes longer; what takes more memory gets a MemoryError."""

    def stop(number: int, frame: FrameType | None) -> None:
        trail = traceback.extract_stack(frame)
        ours = [f for f in trail if f.filename.startswith(SPEAKERS[:-1])]
        raise TooSlow(f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "")

    before = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except TooSlow as error:
        raise Fault(f"took more than {seconds} s", str(error)) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check(holds: Any, what: str) -> None:
    if not holds:
        raise Fault(what)


def check_finite(value: Any, what: str) -> None:
    """A Fault when there is a NaN or an infinity in numbers, arrays, and whatever holds some."""
    if isinstance(value, torch.Tensor):
        check(bool(torch.isfinite(value.detach()).all()), f"{what} is not finite")
    elif isinstance(value, np.ndarray):
        numbers = value.dtype.kind in "fc"
        check(not numbers or bool(np.isfinite(value).all()), f"{what} is not finite")
    elif isinstance(value, float | np.floating):
        check(math.isfinite(value), f"{what} is {value}")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            check_finite(part, f"{what}[{key!r}]")
    elif isinstance(value, tuple | list):
        for part in value:
            check_finite(part, what)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            check_finite(getattr(value, field.name), f"{what}.{field.name}")


def check_inside(space: gymnasium.Space[Any], value: Any, what: str) -> None:
    check(space.contains(value), f"{what} is not in {space}")
