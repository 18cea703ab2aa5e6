"""The page in a real browser: headless Chromium, driven by playwright.

PLAY_PICTURE=docs/images/play.png makes the picture of docs/play.md of the second test.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cola_train.data.sources import DataSources, LoadingConfig
from cola_train.play.session import PlayConfig

pytest.importorskip("aiohttp", reason="the server needs aiohttp")
pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
from playwright.sync_api import sync_playwright

from cola_train.play.server import PlayServer, start

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120
"""Seconds that a loaded machine may take for a plan."""
RED = (255, 90, 95)


@contextmanager
def served(config: PlayConfig) -> Iterator[tuple[str, PlayServer]]:
    """The page's address, while it is served from another thread."""
    server, loop = PlayServer(config), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE)

    try:
        runner, port = wait(start(server, "127.0.0.1", 0))
        yield f"http://127.0.0.1:{port}{server.path}", server
        wait(runner.cleanup())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def opened(address: str) -> Iterator[Any]:
    """The page, which must not have complained of anything in the end."""
    complaints: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1160, "height": 880})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(address)
        until(page, "view !== null")
        yield page
        browser.close()
    assert not complaints


def until(page: Any, condition: str) -> None:
    """Until JavaScript's `condition` holds; playwright's own wait needs eval, which the page
    forbids."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.03)


def press(page: Any, key: str, times: int = 1) -> None:
    """Presses a key that makes a step and waits for what it brings."""
    for _ in range(times):
        step = page.evaluate("view.step")
        page.keyboard.press(key)
        until(page, f"view.step === {step + 1} && !busy")


def test_keys_and_pad_play_and_record_in_the_browser(own: PlayConfig) -> None:
    with served(own) as (address, server), opened(address) as page:
        assert page.inner_text("figure.dream figcaption").startswith("Dream")
        assert "No reality here" in page.inner_text("#notwin")
        start = page.evaluate("view.dream")
        page.keyboard.press("x")
        until(page, "view.recording")
        press(page, "2")
        moved = page.evaluate("document.getElementById('dream').src")
        assert moved != start
        page.locator("#pad button").nth(2).click()
        until(page, "view.step >= 2 && !busy")
        press(page, " ")
        steps = page.evaluate("view.step")
        page.keyboard.press("Backspace")
        until(page, f"view.step === {steps - 1}")
        page.keyboard.press("x")
        until(page, "!view.recording")
        assert "1 episode saved" in page.inner_text("#recorded")
        page.keyboard.press("n")
        until(page, "view.pair === 1 && view.step === 0")
        folder = server.session.recorder.folder
    assert folder is not None
    (entry,) = DataSources(str(folder), LoadingConfig(workers=0)).entries
    assert entry.frames == steps and entry.action_dim == 5


def test_dream_beside_twin_with_border_and_ghosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("robodesk", reason="the twin needs RoboDesk")
    picture = Path(os.environ.get("PLAY_PICTURE", tmp_path / "play.png")).absolute()
    monkeypatch.chdir(tmp_path)
    config = PlayConfig(task="push_green")
    with served(config) as (address, _), opened(address) as page:
        assert page.inner_text("#trustbadge") == "a real frame"
        for key, times in (("a", 4), ("w", 2), ("r", 2), ("d", 3)):
            press(page, key, times)
            if not page.evaluate("view.trusted"):
                break
        assert page.evaluate("view.expected < menu.limit && view.twin_on")
        assert page.evaluate("Math.abs(view.expected - view.psnr)") < 6
        time.sleep(0.5)  # the border fades in
        page.screenshot(path=picture, full_page=True)
        border = page.locator("#dreamscreen").bounding_box()
        seen = np.asarray(Image.open(picture).convert("RGB"))
        y, x = round(border["y"] + border["height"] / 2), round(border["x"] + 2)
        np.testing.assert_allclose(seen[y, x], RED, atol=12)

        page.keyboard.press("g")
        until(page, "view.expected === null && view.trusted")
        page.keyboard.press("p")
        until(page, "ghosts.length === 4")
        until(page, "[...document.querySelectorAll('#ghosts canvas')].length === 4")
        page.keyboard.press("p")
        until(page, "!view.driving")
        page.keyboard.press("t")
        until(page, "!view.twin_on && view.psnr === null")
        page.select_option("#task", "push_red")
        until(page, "view.task === 'push_red' && view.step === 0")
