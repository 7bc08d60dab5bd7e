"""The queue on the web page, in a real browser on a real server with scripted workers: see tests/workers.py."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from demucs_server_worker.server import listing
from tests.browser import browsing, drop, opened_page, overflow, row, until
from tests.http_server import InProcess, serving, write_song

browser = pytest.fixture(scope="module")(browsing)

HOSTILE = '<img src=x onerror="window.hacked=1"><b>bold</b>'
LARGEST_BYTES = 300_000
LONG = "a very long name " * 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("queue"), workers=1, max_file_size=LARGEST_BYTES) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: InProcess) -> Iterator[Page]:
    with opened_page(browser, server.url) as page:
        yield page


@pytest.fixture
def blocked(server: InProcess) -> Iterator[str]:
    """A task that keeps the only worker busy until it is cancelled; the queue is empty behind it in the end."""
    task = server.submit("wait for the end")["id"]
    server.until_state(task, "running")
    yield task
    for state in ("queued", "running"):
        for left in server.client.get("/api/v1/tasks", params={"state": state, "limit": 500}).json()["tasks"]:
            server.client.post(f"/api/v1/tasks/{left['id']}/cancel")


def test_a_task_is_followed_from_the_queue_to_its_end_without_a_reload(
    page: Page, server: InProcess, blocked: str
) -> None:
    first, second = server.submit("succeed 1"), server.submit("succeed 2", priority="low")
    expect(row(page, "wait for the end").locator(".row-line")).to_contain_text("Separating")
    expect(row(page, "wait for the end").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "20")
    expect(row(page, "succeed 1").locator(".row-line")).to_contain_text("Next in the queue")
    expect(row(page, "succeed 2").locator(".row-line")).to_contain_text("Place 2 in the queue")
    expect(row(page, "succeed 2").locator(".row-line")).to_contain_text("Low")
    page.get_by_role("button", name="Cancel wait for the end").click()
    expect(row(page, "wait for the end").first).to_have_attribute("data-state", "cancelled")
    expect(row(page, "succeed 2")).to_have_attribute("data-state", "completed")
    assert server.task(first["id"])["state"] == server.task(second["id"])["state"] == "completed"


def test_what_is_told_while_a_list_is_on_its_way_is_newer_than_the_list(
    browser: Browser, server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun, go_on = listing._written, threading.Event(), threading.Event()
    lists = itertools.count(1)

    def late(*args: Any) -> bytes:
        if next(lists) == 2:  # the last that the page asks for by itself
            begun.set()
            assert go_on.wait(60)
        return real(*args)

    server.until_state(ended := server.submit("wait to end")["id"], "running")
    server.until_state(deleted := server.submit("succeed and be deleted")["id"], "queued")
    monkeypatch.setattr(listing, "_written", late)
    with opened_page(browser, server.url, live=False) as page:
        try:
            assert begun.wait(60), "the list is read, with both tasks as they were"
            server.client.post(f"/api/v1/tasks/{ended}/cancel")
            expect(row(page, "wait to end")).to_have_attribute("data-state", "cancelled")
            expect(row(page, "succeed and be deleted")).to_have_attribute("data-state", "completed")
            server.client.delete(f"/api/v1/tasks/{deleted}")
            expect(row(page, "succeed and be deleted")).to_have_count(0)
        finally:
            go_on.set()
        page.locator("#connection[data-state=live]").wait_for()
        page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        expect(row(page, "succeed and be deleted")).to_have_count(0)
        assert row(page, "wait to end").get_attribute("data-state") == "cancelled"


def test_a_failed_task_says_why_and_can_be_tried_again_and_deleted(page: Page, server: InProcess) -> None:
    task = server.submit("raise unreadable")["id"]
    failed = row(page, "raise unreadable")
    expect(failed.locator(".row-line")).to_contain_text("it is text")
    page.get_by_role("button", name="Try raise unreadable again").click()
    until(lambda: server.task(task)["attempt"] == 1 and server.task(task)["finishedAt"], "it was tried again")
    expect(failed).to_have_attribute("data-state", "failed")
    page.get_by_role("button", name="Delete raise unreadable and its stems").click()
    expect(failed).to_have_count(0)
    assert server.client.get(f"/api/v1/tasks/{task}").status_code == 404


def test_what_others_delete_goes_from_the_page(page: Page, server: InProcess) -> None:
    task = server.submit("succeed for others")["id"]
    expect(row(page, "succeed for others")).to_have_attribute("data-state", "completed")
    assert server.client.delete(f"/api/v1/tasks/{task}").status_code == 204
    expect(row(page, "succeed for others")).to_have_count(0)


def test_filters_show_one_state_count_all_and_are_remembered(page: Page, server: InProcess) -> None:
    server.until_state(server.submit("succeed to be seen")["id"], "completed")
    server.until_state(server.submit("raise value")["id"], "failed")
    expect(row(page, "raise value")).to_have_attribute("data-state", "failed")
    page.get_by_role("button", name=re.compile("^Failed")).click()
    expect(row(page, "raise value")).to_be_visible()
    expect(page.locator("#tasks .row:not([data-state=failed])")).to_have_count(0)
    totals = server.client.get("/api/v1/status").json()["totals"]
    for name, count in (("Done", totals["completed"]), ("Failed", totals["failed"])):
        expect(page.get_by_role("button", name=f"{name} {count}", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name=re.compile("^Failed"))).to_have_attribute("aria-pressed", "true")
    expect(row(page, "raise value")).to_be_visible()
    expect(row(page, "succeed to be seen")).to_have_count(0)


def test_a_refused_file_says_why_beside_its_name(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp3"
    text.write_text("no sound at all, but a good many words of text " * 20)
    drop(page, text)
    refused = page.locator("#uploads .row[data-state=refused]")
    expect(refused.locator(".row-name")).to_have_text("notes.mp3")
    expect(refused.locator(".row-line")).to_contain_text("Refused: notes.mp3")
    expect(refused.locator(".row-line")).to_have_attribute("role", "alert")
    page.get_by_role("button", name="Do not send notes.mp3").click()
    expect(refused).to_have_count(0)


def test_a_file_that_is_too_large_is_refused_as_such(page: Page, tmp_path: Path) -> None:
    large = write_song(tmp_path / "large.wav", seconds=60)
    assert large.stat().st_size > LARGEST_BYTES
    drop(page, large)
    refused = page.locator("#uploads .row[data-state=refused]")
    expect(refused.locator(".row-line")).to_contain_text(f"more than the {LARGEST_BYTES} allowed")


def test_names_are_text_and_never_markup(page: Page, server: InProcess, tmp_path: Path) -> None:
    name = f"succeed {HOSTILE}"
    server.submit(name, projectName=HOSTILE)
    expect(row(page, name)).to_have_attribute("data-state", "completed")
    text = tmp_path / "text"
    text.write_text("no sound " * 99)
    drop(page, text, names=(HOSTILE.replace("/", "") + ".mp3",))
    expect(page.locator("#uploads .row[data-state=refused] .row-name")).to_contain_text("<img src=x")
    row(page, name).get_by_role("link").click()
    expect(page.locator(".stage-title")).to_have_text(name)
    assert page.locator("#views img, #views b").count() == 0
    assert page.evaluate("window.hacked") is None


def test_long_names_in_either_direction_widen_nothing(browser: Browser, server: InProcess) -> None:
    server.submit(f"succeed {LONG}")
    server.submit("succeed " + "שם ארוך מאוד לשיר " * 12 + "x" * 200)
    for locale in ("en-GB", "he-IL"):
        with opened_page(browser, server.url, width=360, height=740, locale=locale) as page:
            expect(page.locator(".row").nth(1)).to_be_visible()
            assert overflow(page) == 0


def test_of_hundreds_of_tasks_an_event_touches_only_its_own_row(page: Page, server: InProcess, blocked: str) -> None:
    for number in range(150):
        server.submit(f"succeed later {number}")
    page.reload()
    expect(page.locator("#tasks .row")).to_have_count(100)
    page.locator("#more").scroll_into_view_if_needed()
    until(lambda: page.locator("#tasks .row").count() >= 150, "the next page of tasks was brought")
    page.evaluate(
        """() => {
            window.touched = new Set();
            const note = (changes) => changes.forEach(({ target }) => {
                const row = (target.nodeType === 1 ? target : target.parentElement)?.closest(".row");
                if (row) window.touched.add(row.querySelector(".row-name").textContent);
            });
            const about = { childList: true, subtree: true, attributes: true, characterData: true };
            new MutationObserver(note).observe(document.querySelector("#tasks"), about);
        }"""
    )
    last = server.client.get("/api/v1/tasks", params={"limit": 1}).json()["tasks"][0]
    server.client.post(f"/api/v1/tasks/{last['id']}/cancel")
    expect(row(page, last["inputName"])).to_have_attribute("data-state", "cancelled")
    assert page.evaluate("[...window.touched]") == [last["inputName"]]
    styles = page.locator("#tasks .row").last.evaluate("row => getComputedStyle(row).contentVisibility")
    assert styles == "auto"


def test_a_stream_that_is_open_but_dead_is_noticed(page: Page) -> None:
    judged = page.evaluate(
        """async () => {
            const { Staleness } = await import("/static/js/api/staleness.js");
            const [one, two] = [1, 2].map((queued) => ({ queue: { queued }, totals: {} }));
            const told = (...steps) => {
                const staleness = new Staleness();
                return steps.map((step) => (step === "event" ? staleness.heard() : staleness.judge(step)));
            };
            return {
                quiet: told(one, one, one, one),
                dead: told(one, one, two, two, two, two),
                late: told(one, one, two, "event", two, two),
                told: told(one, "event", two, two, two),
            };
        }"""
    )
    assert {name: True in steps for name, steps in judged.items()} == {
        "quiet": False, "dead": True, "late": False, "told": False,
    }  # fmt: skip
    assert judged["dead"].count(True) == 1


def test_a_running_task_is_stopped_by_keyboard_alone(page: Page, blocked: str) -> None:
    page.get_by_role("button", name="Cancel wait for the end").first.focus()
    page.keyboard.press("Enter")
    stopped = page.locator(f'#tasks .row:has(a[href="#task/{blocked}"])')
    expect(stopped).to_have_attribute("data-state", "cancelled")


def test_health_shows_workers_the_queue_and_the_load(page: Page, blocked: str) -> None:
    page.get_by_role("link", name="wait for the end").first.wait_for()
    worker = page.locator(".worker")
    expect(worker).to_have_count(1)
    expect(worker).to_have_attribute("data-state", "busy")
    expect(worker.locator(".worker-task")).to_have_text("wait for the end")
    expect(worker.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "20")
    expect(page.locator("#depth")).to_contain_text("1 running")
    expect(page.locator("#problems")).to_contain_text("All is well.")
    expect(page.get_by_role("img", name=re.compile("Load of the machine over the last 5 minutes"))).to_be_visible()
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.locator("canvas.plot").evaluate(drawn)
