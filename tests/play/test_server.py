"""The server lets in who knows the token, and believes nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from cola_env.errors import ColaWorldError
from cola_train.play.messages import LONGEST
from cola_train.play.session import PlayConfig

pytest.importorskip("aiohttp", reason="the server needs aiohttp")
from aiohttp import WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer

from cola_train.play.notebook import show
from cola_train.play.server import PlayServer, start

Client = Any


def visit(config: PlayConfig, visitor: Callable[[Client, PlayServer], Awaitable[None]]) -> None:
    async def run() -> None:
        server = PlayServer(config)
        async with TestClient(TestServer(server.app())) as client:
            await visitor(client, server)

    asyncio.run(run())


async def ask(page: Any, **message: Any) -> dict[str, Any]:
    await page.send_str(json.dumps(message))
    answer: dict[str, Any] = await page.receive_json()
    return answer


def test_only_the_token_opens_the_page_and_the_socket(own: PlayConfig) -> None:
    async def visitor(client: Client, server: PlayServer) -> None:
        page = await client.get(server.path)
        assert (
            page.status == 200 and "script-src 'nonce-" in page.headers["Content-Security-Policy"]
        )
        assert "<script nonce=" in await page.text()
        for path in ("/", "/x/", f"{server.path[:-2]}/", "/play", f"{server.path}../page.html"):
            assert (await client.get(path)).status == 404
        for path, headers, status in (
            ("/wrong/play", {}, 404),
            (f"{server.path}play", {"Origin": "http://elsewhere.example"}, 403),
        ):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(path, headers=headers)
            assert refused.value.status == status

    visit(own, visitor)
    assert PlayServer(own).token != PlayServer(own).token


def test_a_step_goes_round_and_bad_messages_are_refused(own: PlayConfig) -> None:
    async def visitor(client: Client, server: PlayServer) -> None:
        async with client.ws_connect(f"{server.path}play") as page:
            first = await page.receive_json()
            assert first["do"] == "view" and first["menu"]["env"] == "own"
            assert first["dream"].startswith("data:image/png;base64,")
            for bad in ({"do": "eval", "code": "1"}, {"do": "act", "keys": [], "size": 9}):
                assert (await ask(page, **bad))["do"] == "refused"
            refused = await ask(page, do="choose", task="../secret", checkpoint=0)
            assert refused["do"] == "refused" and "menu" in refused["text"]
            await page.send_bytes(b"\x00")
            assert (await page.receive_json())["do"] == "refused"
            moved = await ask(page, do="act", keys=["2"], size=1)
            assert moved["step"] == 1 and moved["dream"] != first["dream"]
        async with client.ws_connect(f"{server.path}play") as page:
            await page.receive_json()
            await page.send_str("x" * (LONGEST + 1))
            assert (await page.receive()).type.name in ("CLOSE", "CLOSED", "CLOSING")

    visit(own, visitor)


def test_all_pages_see_the_same_and_the_planner_stops_when_told(own: PlayConfig) -> None:
    async def visitor(client: Client, server: PlayServer) -> None:
        async with (
            client.ws_connect(f"{server.path}play") as one,
            client.ws_connect(f"{server.path}play") as two,
        ):
            await one.receive_json(), await two.receive_json()
            await ask(one, do="drive", on=True)
            views = [await two.receive_json() for _ in range(3)]
            assert views[0]["driving"] and views[1]["ghosts"] and views[2]["step"] == 2
            await two.send_str('{"do": "drive", "on": false}')
            while (view := await two.receive_json())["driving"]:
                pass
            step = view["step"]
            await asyncio.sleep(0.2)
            assert (await ask(two, do="act", keys=[], size=1))["step"] in (step, step + 1)

    visit(own, visitor)


def test_what_is_recorded_is_kept_when_the_server_ends(own: PlayConfig) -> None:
    servers = []

    async def visitor(client: Client, server: PlayServer) -> None:
        servers.append(server)
        async with client.ws_connect(f"{server.path}play") as page:
            await page.receive_json()
            await ask(page, do="record", on=True)
            await ask(page, do="act", keys=["2"], size=1)

    visit(own, visitor)
    folder = servers[0].session.recorder.folder
    assert folder is not None and (folder / "meta" / "info.json").is_file()


def test_a_port_that_is_taken_is_told(own: PlayConfig) -> None:
    async def run() -> None:
        runner, port = await start(PlayServer(own), "127.0.0.1", 0)
        try:
            assert runner.addresses[0][0] == "127.0.0.1"
            with pytest.raises(ColaWorldError, match="give another port="):
                await start(PlayServer(own), "127.0.0.1", port)
        finally:
            await runner.cleanup()

    asyncio.run(run())


def test_a_notebook_shows_the_page_until_it_is_closed(own: PlayConfig) -> None:
    shown = show(env="own", checkpoint=own.checkpoint, out=own.out, width="90%")
    assert f'<iframe src="{shown.address}" width="90%"' in shown._repr_html_()
    with urlopen(shown.address) as page:
        assert b"<h1>Play in a dream" in page.read()
    shown.close()
    with pytest.raises(URLError):
        urlopen(shown.address)
    with pytest.raises(ColaWorldError, match="checkpoint="):
        show(env="own", out=own.out)
