"""Playing inside a notebook."""

from __future__ import annotations

import asyncio
import atexit
import threading
from dataclasses import dataclass, fields
from html import escape
from typing import Any

from cola_env.errors import ColaWorldError
from cola_train.play.server import PlayServer, start
from cola_train.play.session import PlayConfig

HOST = "127.0.0.1"


@dataclass
class Shown:
    """The page inside the notebook's; `close` ends it, as does the end of the kernel."""

    address: str
    width: str
    height: int
    _runner: Any
    _loop: asyncio.AbstractEventLoop

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{escape(self.address)}" width="{escape(self.width)}" '
            f'height="{self.height}" style="border:0"></iframe>'
        )

    def close(self) -> None:
        """Frees the port and the simulator; what was being recorded is kept."""
        atexit.unregister(self.close)
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)


def show(width: str = "100%", height: int = 960, port: int = 0, **settings: Any) -> Shown:
    """The page as the result of a notebook's cell.

    settings: those of PlayConfig, e.g. `task="push_red"`. port: 0 is any free one. The browser must
    reach it: with a notebook behind SSH, name one and forward it, too.
    Raises ColaWorldError for settings that there are not.
    """
    known = [each.name for each in fields(PlayConfig)]
    if unknown := sorted({*settings} - {*known}):
        raise ColaWorldError(
            f"There is no setting {', '.join(unknown)} of the page; choose of {', '.join(known)}."
        )
    server, loop = PlayServer(PlayConfig(**settings)), asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    try:
        begun = asyncio.run_coroutine_threadsafe(start(server, HOST, port), loop)
        runner, port = begun.result()
    except BaseException:
        loop.call_soon_threadsafe(loop.stop)
        raise
    shown = Shown(f"http://{HOST}:{port}{server.path}", width, height, runner, loop)
    atexit.register(shown.close)
    return shown
