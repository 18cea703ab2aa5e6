"""Playing inside a notebook."""

from __future__ import annotations

import asyncio
import atexit
import threading
from typing import Any

from cola_train.play.server import PlayServer, start
from cola_train.play.session import PlayConfig

HOST = "127.0.0.1"


def show(width: str = "100%", height: int = 760, port: int = 0, **settings: Any) -> Any:
    """The page in the notebook's own: an IPython IFrame, served until the kernel ends.

    settings: those of PlayConfig, e.g. `task="push_red"`. The browser must reach this machine's
    `port`: with a notebook behind SSH, forward the one that you give.
    Raises ColaWorldError for settings that there are not.
    """
    from IPython.display import IFrame

    server = PlayServer(PlayConfig(**settings))
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    begun = asyncio.run_coroutine_threadsafe(start(server, HOST, port), loop)
    runner, port = begun.result()
    atexit.register(lambda: asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result())
    return IFrame(f"http://{HOST}:{port}{server.path}", width, height)
