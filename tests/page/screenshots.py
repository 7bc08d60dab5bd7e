"""Pictures of the web page at three widths, light and dark, in both languages: `make screenshots`, then look at them.

Songs are synthesised and separated by the model `demo` on a server of their own; nothing else is needed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from demucs_server_worker.demo.files import write_song
from tests.browser import deck, launched, opened_page, row, until
from tests.http_server import commanded

FOLDER = Path("screenshots")
# Name and length in seconds; the first is the one that is mixed, the last is still at work on the pictures.
SONGS = {"Evening Train": 32.0, "Blue Kitchen": 8.0, "רכבת לילה": 9.0, "Long Way Down": 110.0}
WIDTHS = {360: 740, 768: 1024, 1280: 860}
VIEWS = ("songs", "mixer", "health")
LOCALES = {"en": "en-GB", "he": "he-IL"}
PLAYED_SECONDS = 6.4


def main() -> None:
    """Take them all, or the one of the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readme", type=Path, metavar="FILE", help="only the picture of the README, into this file")
    readme = parser.parse_args().readme
    with tempfile.TemporaryDirectory() as folder, commanded(Path(folder)) as server, launched() as browser:
        address = separate(browser, server.url, Path(folder))
        if readme:
            picture(browser, server.url, address, readme, width=1280, scheme="light", locale="en-GB")
            return
        FOLDER.mkdir(exist_ok=True)
        for language, locale in LOCALES.items():
            for scheme in ("light", "dark"):
                for width in WIDTHS:
                    path = FOLDER / f"{width}-{scheme}-{language}.png"
                    picture(browser, server.url, address, path, width=width, scheme=scheme, locale=locale)
        print(f"{len(list(FOLDER.glob('*.png')))} pictures are in {FOLDER}/")


def separate(browser: Browser, url: str, folder: Path) -> str:
    """Have the songs separated; the address of the one to mix."""
    with opened_page(browser, url) as page:
        for seed, (name, seconds) in enumerate(SONGS.items()):
            mix, _ = write_song(folder / "songs", name, 500_000 + seed, seconds)
            page.locator("#files").set_input_files(mix)
            page.locator("#uploads .row").first.wait_for(state="detached")
            if seconds < max(SONGS.values()):
                until(lambda: done(page) == seed + 1, f"{name} is separated", seconds=300)  # noqa: B023
        return row(page, f"{next(iter(SONGS))}.wav").get_by_role("link").get_attribute("href") or ""


def done(page: Page) -> int:
    """How many songs are finished."""
    return page.locator("#tasks .row[data-state=completed]").count()


def picture(
    browser: Browser, url: str, address: str, path: Path, *, width: int, scheme: str, locale: str
) -> None:  # fmt: skip
    """The page while it plays; on narrow screens one picture a view."""
    with opened_page(
        browser, url, at=address, width=width, height=WIDTHS[width], locale=locale, color_scheme=scheme
    ) as page:  # fmt: skip
        page.locator(".lane").nth(3).wait_for()
        page.locator(".worker").first.wait_for(state="attached")
        page.evaluate("document.activeElement.blur()")
        deck(page, f"(deck.seek({PLAYED_SECONDS}), deck.loop({{ start: 4, end: 12.5 }}), deck.toggle(), 1)")
        until(lambda: deck(page, "deck.position") > PLAYED_SECONDS + 1, "it plays")
        if width >= 1000:
            page.screenshot(path=path)
            return
        for view in VIEWS:
            page.locator(f".tabs a[data-view={view}]").click()
            page.evaluate("document.activeElement.blur()")
            page.screenshot(path=path.with_stem(f"{path.stem}-{view}"))


if __name__ == "__main__":
    main()
