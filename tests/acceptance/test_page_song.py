"""A song through the web page, from the drop to the sound of its stems: a real browser, a real server, a real worker
with the model `demo`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demucs_server_worker.demo.files import write_song
from tests.browser import browsing, deck, drop, opened_page, row, until
from tests.http_server import Commanded, commanded

browser = pytest.fixture(scope="module")(browsing)

SONG_SECONDS = 6.0


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two songs, one of them named from right to left, and a picture."""
    folder = tmp_path_factory.mktemp("songs") / "My Album"
    folder.mkdir()
    for seed, name in enumerate(("song", "שיר")):
        mix, _ = write_song(folder.parent, name, 500_000 + seed, SONG_SECONDS)
        mix.rename(folder / mix.name)
    (folder / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a song")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    with commanded(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_a_dropped_song_is_uploaded_separated_heard_and_found_again(
    browser: Browser, server: Commanded, songs: Path
) -> None:
    with opened_page(browser, server.url) as page:
        page.get_by_label("Priority").select_option("high")
        page.evaluate(
            """() => {
                window.seen = [];
                const note = () => {
                    const bar = document.querySelector("#tasks .row [role=progressbar]:not([hidden])");
                    if (bar) window.seen.push(Number(bar.getAttribute("aria-valuenow")));
                };
                const about = { subtree: true, childList: true, attributeFilter: ["aria-valuenow"] };
                new MutationObserver(note).observe(document.querySelector("#tasks"), about);
            }"""
        )
        drop(page, songs / "song.wav")
        expect(row(page, "song.wav")).to_have_attribute("data-state", "completed")
        seen = page.evaluate("window.seen")
        assert len(set(seen)) >= 3
        assert seen == sorted(seen)
        expect(page.locator("#uploads .row")).to_have_count(0)
        row(page, "song.wav").get_by_role("link").click()
        expect(page.locator(".lane")).to_have_count(4)
        page.get_by_role("button", name="Play", exact=True).click()
        until(lambda: min(deck(page, "deck.player?.levels() ?? []") or [0]) > 0.01, "all stems sound")
        page.get_by_role("button", name="Solo Drums").click()
        page.reload()
        expect(row(page, "song.wav")).to_have_attribute("data-state", "completed")
        expect(page.get_by_role("button", name="Solo Drums")).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_label("Priority")).to_have_value("high")


def test_a_folder_of_songs_is_taken_whole_for_karaoke(browser: Browser, server: Commanded, songs: Path) -> None:
    with opened_page(browser, server.url) as page:
        page.locator("#stems").select_option("karaoke")
        page.get_by_label("Format").select_option("flac")
        page.locator("#folder").set_input_files(songs)
        done = row(page, "שיר.wav")
        expect(done).to_have_attribute("data-state", "completed")
        expect(page.locator("#uploads .row")).to_have_count(0)
        expect(page.locator(".row-name").get_by_text("cover.jpg", exact=True)).to_have_count(0)
        done.get_by_role("link").click()
        expect(page.locator(".lane")).to_have_count(2)
        expect(page.locator(".lane-name")).to_have_text(["Vocals", "Without vocals"])
        # The stems are FLAC: they are made into WAV on the server, to be read in pieces.
        page.get_by_role("button", name="Play", exact=True).click()
        until(lambda: max(deck(page, "deck.player?.levels() ?? []") or [0]) > 0.01, "it sounds")
        tasks = server.client.get("/api/v1/tasks").json()["tasks"]
        mine = next(task for task in tasks if task["inputName"] == "שיר.wav")
        assert (mine["projectName"], mine["options"]["twoStems"], mine["options"]["format"]) == (
            "My Album", "vocals", "flac",
        )  # fmt: skip


def test_the_page_outlives_its_server(browser: Browser, tmp_path: Path, songs: Path) -> None:
    with commanded(tmp_path) as first:
        port = first.url.rpartition(":")[2]
        with opened_page(browser, first.url) as page:
            drop(page, songs / "song.wav")
            expect(row(page, "song.wav")).to_have_attribute("data-state", "completed")
            first.process.process.kill()
            first.process.ended()
            expect(page.locator("#connection")).to_have_text("Offline, trying again")
            drop(page, songs / "שיר.wav")
            expect(row(page, "שיר.wav", "uploads").locator(".row-line")).to_contain_text("could not be reached")
            with commanded(tmp_path, DEMUCS_WORKER_PORT=port):
                expect(page.locator("#connection")).to_have_text("Live")
                expect(row(page, "song.wav")).to_have_attribute("data-state", "completed")
                page.get_by_role("button", name="Send שיר.wav again").click()
                expect(row(page, "שיר.wav")).to_have_attribute("data-state", "completed")
                assert page.locator("#uploads .row").count() == 0


def test_a_running_song_is_cancelled(browser: Browser, server: Commanded, tmp_path: Path) -> None:
    mix, _ = write_song(tmp_path, "a longer song", 500_007, 40.0)
    with opened_page(browser, server.url) as page:
        drop_chosen(page, mix)
        running = row(page, "a longer song.wav")
        expect(running).to_have_attribute("data-state", "running")
        page.get_by_role("button", name="Cancel a longer song.wav").click()
        expect(running).to_have_attribute("data-state", "cancelled")


def drop_chosen(page: Page, path: Path) -> None:
    """Choose a file by the button, as who drops none."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(path)
