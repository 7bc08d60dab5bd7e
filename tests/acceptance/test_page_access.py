"""The web page for everybody: axe-core, two languages, two themes, narrow screens, the key; in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser import browsing, opened_page, overflow, row
from tests.http_server import InProcess, serving

browser = pytest.fixture(scope="module")(browsing)

KEY = "a key for the page"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """One with a task in every state."""
    with serving(tmp_path_factory.mktemp("access"), workers=1) as server:
        sound = np.random.default_rng(5).normal(0, 2_000, (5 * 44_100, 2)).astype(np.int16)
        soundfile.write(server.folder / "song.wav", sound, 44_100, subtype="PCM_16")
        for script in ("copy vocals drums", "raise unreadable"):
            server.until_state(server.submit(script)["id"], "completed", "failed")
        cancelled = server.submit("wait a little")["id"]
        server.client.post(f"/api/v1/tasks/{cancelled}/cancel")
        server.until_state(server.submit("wait for ever")["id"], "running")
        server.submit("succeed at last")
        yield server


@pytest.fixture(scope="module")
def song(server: InProcess) -> str:
    """The address of the finished task."""
    done = server.client.get("/api/v1/tasks", params={"state": "completed"}).json()["tasks"]
    return f"#task/{done[0]['id']}"


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds: rules and what breaks them."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "he-IL"])
def test_axe_finds_nothing(browser: Browser, server: InProcess, song: str, locale: str, scheme: Any) -> None:
    with opened_page(browser, server.url, at=song, locale=locale, color_scheme=scheme) as page:
        page.locator(".lane").nth(1).wait_for()
        page.locator(".worker").wait_for()
        page.locator("#tasks .row").nth(4).wait_for()
        page.locator(".lane-head .toggle").first.click()
        page.locator(".lane-head .toggle").last.click()
        assert page.locator("html").get_attribute("dir") == ("rtl" if locale == "he-IL" else "ltr")
        assert violations(page) == []
        page.locator("#help").click()
        assert violations(page) == []


def test_axe_finds_nothing_on_a_phone(browser: Browser, server: InProcess, song: str) -> None:
    with opened_page(browser, server.url, at=song, width=360, height=740) as page:
        page.locator(".lane").nth(1).wait_for()
        for view in ("mixer", "songs", "health"):
            page.locator(f".tabs a[data-view={view}]").click()
            page.locator(f"#{view}").wait_for()
            assert violations(page) == []


@pytest.mark.parametrize("locale", ["en-GB", "he-IL"])
def test_no_view_is_wider_than_the_window(browser: Browser, server: InProcess, song: str, locale: str) -> None:
    with opened_page(browser, server.url, at=song, locale=locale) as page:
        page.locator(".lane").nth(1).wait_for()
        for width in (360, 768, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            for view in ("mixer", "songs", "health"):
                if width < 1000:
                    page.locator(f".tabs a[data-view={view}]").click()
                expect(page.locator(f"#{view}")).to_be_visible()
                assert overflow(page) == 0
            # The longest name that a lane may have, as `no_<stem>` in some language.
            page.evaluate(
                "() => document.querySelectorAll('.lane-name').forEach((n) => (n.textContent = 'w'.repeat(40)))"
            )
            assert overflow(page) == 0


def test_the_language_is_switched_without_a_reload_and_remembered(
    browser: Browser, server: InProcess, song: str
) -> None:
    with opened_page(browser, server.url, at=song) as page:
        expect(page.get_by_role("button", name="Mute Vocals")).to_be_visible()
        controls, wave = page.locator(".lane-controls").first, page.locator(".lane .wave").first
        assert left(controls) < left(wave)
        page.get_by_label("Language").select_option("he")
        expect(page.get_by_role("button", name="השתקת שירה")).to_be_visible()
        expect(row(page, "raise unreadable").locator(".row-line")).to_have_text(
            "אי אפשר לפענח את הקובץ. בדקו שהוא מתנגן במקום אחר."
        )
        # Mirrored, but time runs from left to right.
        assert left(controls) > left(wave)
        assert page.locator(".lane .wave").first.evaluate("wave => getComputedStyle(wave).direction") == "ltr"
        marks = page.locator(".ruler-mark")
        assert left(marks.first) < left(marks.last)
        page.reload()
        expect(page.get_by_role("button", name="השתקת שירה")).to_be_visible()
        assert page.locator("html").get_attribute("lang") == "he"


def left(place: Any) -> float:
    """Where it begins, CSS pixels from the window's left."""
    box = place.bounding_box()
    assert box is not None
    return float(box["x"])


def test_the_theme_is_chosen_and_remembered(browser: Browser, server: InProcess) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    with opened_page(browser, server.url, color_scheme="light") as page:
        light = page.evaluate(paper)
        page.locator("#theme").click()
        page.locator("#theme").click()
        expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
        dark = page.evaluate(paper)
        assert dark != light
        page.reload()
        assert page.evaluate(paper) == dark


def test_nothing_moves_where_that_is_not_wanted(browser: Browser, server: InProcess) -> None:
    duration = "bar => getComputedStyle(bar).transitionDuration"
    for wish, expected in (("reduce", "0s"), ("no-preference", "0.5s")):
        with opened_page(browser, server.url, reduced_motion=wish) as page:
            assert page.locator("#tasks .bar-fill").first.evaluate(duration) == expected


def test_the_focus_is_seen_wherever_the_keyboard_goes(browser: Browser, server: InProcess, song: str) -> None:
    shown = """() => {
        const node = document.activeElement;
        const styles = [getComputedStyle(node), getComputedStyle(node, "::after")];
        const seen = styles.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1);
        return [seen || node === document.body, node.outerHTML.slice(0, 120)];
    }"""
    with opened_page(browser, server.url, at=song) as page:
        page.locator(".lane").nth(1).wait_for()
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            seen, what = page.evaluate(shown)
            assert seen, what
            reached.add(page.evaluate("document.activeElement.className || document.activeElement.id"))
        assert {"play", "ruler wave", "slider volume", "slider pan", "toggle toggle-M", "row-link", "chip"} <= reached


def test_a_key_is_asked_for_once(browser: Browser, tmp_path: Any) -> None:
    headers = {"X-API-Key": KEY}
    with (
        serving(tmp_path, api_keys=KEY, headers=headers) as server,
        opened_page(browser, server.url, live=False) as page,
    ):
        asked = page.get_by_role("dialog", name="API key")
        expect(asked).to_be_visible()
        assert violations(page) == []
        asked.get_by_label("Key").fill("another")
        asked.get_by_role("button", name="Open").click()
        expect(asked.get_by_role("alert")).to_have_text("This key does not fit.")
        asked.get_by_label("Key").fill(KEY)
        page.keyboard.press("Enter")
        expect(asked).to_be_hidden()
        page.locator("#connection[data-state=live]").wait_for()
        task = server.submit("succeed behind the key")
        expect(row(page, "succeed behind the key")).to_have_attribute("data-state", "completed")
        # What only a cookie can open: a link, and the stream of events after a reload.
        download = page.evaluate("url => fetch(url).then(({ status }) => status)", task["stems"] or "/api/v1/status")
        assert download == 200
        page.reload()
        page.locator("#connection[data-state=live]").wait_for()
        expect(asked).to_be_hidden()
        assert KEY not in page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")


def test_the_policy_of_the_page_lets_no_inline_script_run(browser: Browser, server: InProcess) -> None:
    policy = server.client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    with opened_page(browser, server.url, tolerated=("inline script",)) as page:
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.ran = true";
                addEventListener("securitypolicyviolation", (event) => (window.stopped = event.violatedDirective));
                document.body.append(script);
            }"""
        )
        assert page.evaluate("[window.ran ?? null, window.stopped]") == [None, "script-src-elem"]
