"""A real browser on the web page: the Chromium of the system, without a window and with no loudspeaker.

browser = pytest.fixture(scope="module")(browsing)          # skips where there is no Chromium

def test_it(browser, server):
    with opened_page(browser, server.url) as page:          # fails at its end if the page had an error
        row(page, "song.wav").click()
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

DEADLINE_SECONDS = 45.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# What the browser writes by itself when an answer is an error: tests that want errors would fail by it.
_EXPECTED = ("Failed to load resource", "net::ERR_")


def browsing() -> Iterator[Browser]:
    """A fixture: the browser, for as long as the module's tests run."""
    if program() is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    expect.set_options(timeout=DEADLINE_SECONDS * 1000)
    with launched() as browser:
        yield browser


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser itself."""
    with sync_playwright() as playwright:
        # A page may play at once, as one that a user has used before may.
        browser = playwright.chromium.launch(
            executable_path=program(), args=["--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


def program() -> str | None:
    """Where the browser is, if there is one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def opened_page(
    browser: Browser, url: str, *, at: str = "", width: int = 1280, height: int = 900, locale: str = "en-GB",
    live: bool = True, tolerated: tuple[str, ...] = (), **options: Any,
) -> Iterator[Page]:  # fmt: skip
    """The page at `url` in a browser that has never been there.

    Args:
        at: what stands behind the URL, such as `#health`.
        width, height: of the window, CSS pixels.
        live: wait until it hears from the server.
        tolerated: words in errors that the test wants.
        options: of the browser's context, such as `color_scheme`.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale, **options)
    context.set_default_timeout(DEADLINE_SECONDS * 1000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.extend(_complaint(message, tolerated)))
    try:
        page.goto(f"{url}/{at}")
        if live:
            page.locator("#connection[data-state=live]").wait_for()
        yield page
        assert errors == []
    finally:
        context.close()


def _complaint(message: ConsoleMessage, tolerated: tuple[str, ...]) -> list[str]:
    """An error of a script or of the content security policy."""
    told = message.type == "error" and not any(words in message.text for words in (*_EXPECTED, *tolerated))
    return [message.text] if told else []


def drop(page: Page, *paths: Path, names: tuple[str, ...] = ()) -> None:
    """Drop files somewhere on the page, as from the desktop. Args: names: other ones than the files have."""
    files = [
        {"name": name, "text": path.read_bytes().decode("latin-1")}
        for path, name in zip(paths, names or tuple(path.name for path in paths), strict=True)
    ]
    page.evaluate(
        """(files) => {
            const data = new DataTransfer();
            for (const { name, text } of files) {
                data.items.add(new File([Uint8Array.from(text, (c) => c.charCodeAt(0))], name));
            }
            const about = { dataTransfer: data, bubbles: true, cancelable: true };
            for (const kind of ["dragenter", "dragover", "drop"]) {
                document.querySelector("header").dispatchEvent(new DragEvent(kind, about));
            }
        }""",
        files,
    )


def row(page: Page, name: str, of: str = "tasks") -> Locator:
    """The row of a task; of an upload, of which the server may tell before it has answered it, in `uploads`."""
    return page.locator(f"#{of} .row").filter(has=page.locator(".row-name").get_by_text(name, exact=True))


def until(happened: Callable[[], object], what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Poll, within a deadline."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"in vain waited until {what}"
        time.sleep(0.03)


def overflow(page: Page) -> float:
    """By how many CSS pixels what is on the page is wider than the window, or what is in a panel than the panel."""
    return float(
        page.evaluate(
            """() => {
                const inner = document.querySelectorAll(".panel, .desk, .row-words, .lane-controls");
                return Math.max(
                    ...[document.documentElement, ...inner].map((node) => node.scrollWidth - node.clientWidth)
                );
            }"""
        )
    )


def deck(page: Page, expression: str) -> Any:
    """A value of what plays (js/mixer/deck.js), as `deck` in a JavaScript expression."""
    return page.evaluate(
        "async () => { const { stage } = await import('/static/js/main.js'); const deck = stage.mixer?.deck;"
        f" return {expression}; }}"
    )
