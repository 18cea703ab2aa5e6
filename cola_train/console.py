"""What a command shows in a terminal or a log file: progress bars, and how it ends."""

from __future__ import annotations

import errno
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from tqdm import tqdm

from cola_env.errors import ColaWorldError, in_short

Item = TypeVar("Item")
LOG_SECONDS = 30.0
"""Between two lines, where there is no terminal to draw a bar in."""


def progress_bar(items: Iterable[Item] | None, title: str, **options: Any) -> tqdm[Item]:
    """tqdm's bar over `items` (None: updated by hand up to `total=`), with other options of its."""
    seconds = 0.1 if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(items, title, dynamic_ncols=True, mininterval=seconds, **options)


GOES_ON = "Stopped; the same command goes on from here."
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
DISK_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "file write failed",
)
"""In the messages of libraries that write files and keep no error number."""


@contextmanager
def ending(stopped: str = "Stopped.") -> Iterator[None]:
    """Ends a command in one sentence where it cannot go on: for a ``ColaWorldError``, a package
    that is missing, a disk that is full or cannot be written, Ctrl-C and SIGTERM (``stopped``)."""
    with _plain_warnings(), _termination_as_interrupt():
        try:
            yield
        except (ColaWorldError, ImportError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(stopped)
        except Exception as error:
            if not (told := _of_disk(error)):
                raise
            sys.exit(
                f"error: A file could not be written ({told}). What was finished is kept: make "
                "room, or choose another out=, and give the command again."
            )


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, once: what then ends the command is not interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _of_disk(error: BaseException) -> str | None:
    """What a disk refused, if that is what failed."""
    told = in_short(error)
    if isinstance(error, OSError) and error.errno in DISK or any(w in told for w in DISK_WORDS):
        return told
    return None


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings without the line of code that they come from."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before
