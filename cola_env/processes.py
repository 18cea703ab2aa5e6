"""Worker processes do not outlive the one that started them and may be killed; forks of a process
that has loaded torch compute on one thread. Torch's settings for a whole process stand here."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, parent_process

from cola_env.errors import ColaWorldError

ONE_THREAD = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""With this in their environment, workers draw and compute on one thread each."""

WORKER_ENDED = (
    "A worker process ended (out of memory, killed, or the simulator failed to start, see above). "
    "What was finished is kept: give the command again, with fewer workers= if memory is short."
)


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, also by ``kill -9``."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def serve() -> None:
    """Begin as a worker process: leave Ctrl-C to the main process, and end with it, however it
    ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


@contextmanager
def deaths_told() -> Iterator[None]:
    """ColaWorldError where a process of a ``ProcessPoolExecutor`` has ended before its work."""
    try:
        yield
    except BrokenProcessPool as error:
        raise ColaWorldError(WORKER_ENDED) from error


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


_forked = False


def _note() -> None:
    global _forked
    _forked = _forked or "torch" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note)


def compute_alone_in_a_fork() -> None:
    """Has torch compute on one thread in such a process, as its own loaders of data do: the threads
    that it had before the fork are missing there, and it would wait for them for ever."""
    if _forked:
        import torch

        torch.set_num_threads(1)


def allow_compiled_graphs(count: int) -> None:
    """Lets torch.compile keep at least so many graphs of a function, one for each kind of input."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(count, torch._dynamo.config.recompile_limit)
