"""Progress bars that a log file stands too."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
LOG_SECONDS = 30.0
"""Between two lines, where there is no terminal to draw a bar in."""


def progress_bar(items: Iterable[Item] | None, title: str, **options: Any) -> tqdm[Item]:
    """tqdm's bar over `items` (None: updated by hand up to `total=`), with other options of its."""
    seconds = 0.1 if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(items, title, dynamic_ncols=True, mininterval=seconds, **options)
