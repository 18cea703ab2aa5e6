"""Processes forked from one that has loaded torch, such as the workers of an AsyncVectorEnv."""

import os
import sys

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
