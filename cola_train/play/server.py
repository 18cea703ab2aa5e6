"""The page's server: this machine only, behind a random token, nothing but checked messages."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from cola_env.errors import ColaWorldError
from cola_train.play.messages import LONGEST, parse
from cola_train.play.session import PlayConfig, Session, View

try:
    from aiohttp import WSMsgType, web
except ImportError as error:
    raise ImportError(
        "Playing needs aiohttp; install it with: pip install 'colaworld[play]'"
    ) from error

PAGE = Path(__file__).with_name("page.html")
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; img-src data:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'",
}
Result = TypeVar("Result")


class OneThread:
    """Runs calls one after the other in a thread that an OpenGL context can belong to; unlike a
    ThreadPoolExecutor also at Python's exit."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        Thread(target=self._run, daemon=True).start()

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        future: Future[Result] = Future()

        def call() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._calls.put(call)
        return future

    def _run(self) -> None:
        while True:
            self._calls.get()()


class PlayServer:
    """One session, for all pages that know the token of the address; they see the same."""

    def __init__(self, config: PlayConfig) -> None:
        self.config = config
        self.token = secrets.token_urlsafe(24)
        self.session: Session
        self._thread = OneThread()
        self._pages: set[web.WebSocketResponse] = set()
        self._driving: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        return f"/{self.token}/"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{token}/", self._page)
        app.router.add_get("/{token}/play", self._play)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        return app

    async def _open(self, _: web.Application) -> None:
        self.session = await self._run(Session, self.config)

    async def _close(self, _: web.Application) -> None:
        if self._driving is not None:
            self._driving.cancel()
        for page in list(self._pages):
            await page.close()
        await self._run(self.session.close)

    async def _run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """In the one thread that all of the session belongs to."""
        return await asyncio.wrap_future(self._thread.submit(function, *arguments))

    def _check(self, request: web.Request) -> None:
        """Lets nobody in who has not been told the token, and no page of another site."""
        if not secrets.compare_digest(request.match_info["token"].encode(), self.token.encode()):
            raise web.HTTPNotFound
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            raise web.HTTPForbidden

    async def _page(self, request: web.Request) -> web.Response:
        self._check(request)
        nonce = secrets.token_urlsafe(16)
        text = PAGE.read_text(encoding="utf-8").replace("<script>", f'<script nonce="{nonce}">')
        headers = {name: value.replace("{nonce}", nonce) for name, value in HEADERS.items()}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _play(self, request: web.Request) -> web.WebSocketResponse:
        self._check(request)
        page = web.WebSocketResponse(max_msg_size=LONGEST, heartbeat=30)
        await page.prepare(request)
        self._pages.add(page)
        try:
            await _send(page, _text(await self._run(self.session.whole)))
            async for message in page:
                if message.type == WSMsgType.TEXT:
                    await self._answer(page, message.data)
                else:
                    await _send(page, _refusal("Messages are text."))
        finally:
            self._pages.discard(page)
        return page

    async def _answer(self, page: web.WebSocketResponse, text: str) -> None:
        try:
            view = await self._run(self.session.handle, parse(text))
        except ColaWorldError as error:
            await _send(page, _refusal(str(error)))
            return
        await self._show(view)
        if view.driving and (self._driving is None or self._driving.done()):
            self._driving = asyncio.create_task(self._drive())

    async def _drive(self) -> None:
        while self._pages and self.session.driving:
            try:
                await self._show(await self._run(self._driven))
            except ColaWorldError as error:
                self.session.driving = False
                await self._tell(_refusal(str(error)))
        if not self._pages:
            self.session.driving = False

    def _driven(self) -> View:
        """A step of the planner, unless it has been stopped since."""
        return self.session.drive() if self.session.driving else self.session.whole()

    async def _show(self, view: View) -> None:
        await self._tell(_text(view))

    async def _tell(self, text: str) -> None:
        for page in list(self._pages):
            await _send(page, text)


async def _send(page: web.WebSocketResponse, text: str) -> None:
    with suppress(ConnectionError):  # a page that has just been closed
        await page.send_str(text)


def _text(view: View) -> str:
    return json.dumps({"do": "view", **asdict(view)})


def _refusal(text: str) -> str:
    return json.dumps({"do": "refused", "text": text})


async def start(server: PlayServer, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Serves until the runner is cleaned up; returns the port, which 0 leaves to the system.

    Raises ColaWorldError where the port is taken, or the settings are wrong.
    """
    runner = web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ColaWorldError(
            f"{host}:{port} cannot be listened on ({error.strerror}): give another port=, or "
            "port=0 for any free one."
        ) from error
    return runner, int(runner.addresses[0][1])


async def serve(config: PlayConfig, host: str, port: int, told: Callable[[str, int], None]) -> None:
    """Serves until it is cancelled; `told` gets the page's address and port once it is there."""
    server = PlayServer(config)
    runner, port = await start(server, host, port)
    try:
        told(f"http://{host}:{port}{server.path}", port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
