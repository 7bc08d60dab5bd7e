"""The mixer of the web page, in a real browser that really plays, on a real server.

Stems are copies of a known noise (see `copy` in tests/workers.py), so that from any few milliseconds of what sounds the
place in the song can be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from tests.browser import browsing, deck, opened_page, until
from tests.http_server import InProcess, serving

browser = pytest.fixture(scope="module")(browsing)

RATE_HZ = 44_100
SONG_SECONDS = 66.0
STEMS = ["vocals", "drums", "bass", "other"]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int16]:
    """Both channels of the song: quiet, so that all stems together do not clip. Shape (samples, 2)."""
    samples = np.random.default_rng(11).normal(0, 1_200, (round(SONG_SECONDS * RATE_HZ), 2))
    return samples.astype(np.int16)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, noise: NDArray[np.int16]) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("mixer"), workers=1) as server:
        soundfile.write(server.folder / "song.wav", noise, RATE_HZ, subtype="PCM_16")
        soundfile.write(server.folder / "short.wav", noise[: 8 * RATE_HZ], RATE_HZ, subtype="PCM_16")
        yield server


def separated(server: InProcess, song: str) -> str:
    """The id of a completed task whose stems are copies of the song."""
    task = server.submit(
        "copy " + " ".join(STEMS), inputPath=str(server.folder / song), outputDir=str(server.folder / "out" / song)
    )
    return str(server.until_state(task["id"], "completed")["id"])


@pytest.fixture(scope="module")
def long_song(server: InProcess) -> str:
    return separated(server, "song.wav")


@pytest.fixture(scope="module")
def short_song(server: InProcess) -> str:
    return separated(server, "short.wav")


@pytest.fixture
def page(browser: Browser, server: InProcess, short_song: str) -> Iterator[Page]:
    """The mixer of the short song."""
    with opened_page(browser, server.url, at=f"#task/{short_song}") as page:
        page.locator(".lane").nth(len(STEMS) - 1).wait_for()
        yield page


def play(page: Page) -> None:
    """Press play, and wait until it sounds."""
    page.get_by_role("button", name="Play", exact=True).click()
    until(lambda: deck(page, "deck.state") == "playing" and min(levels(page)) > 0.01, "all stems sound")


def levels(page: Page) -> list[float]:
    """The loudest sample of each stem in the last moments, as the analysers hear it."""
    return list(deck(page, "deck.player?.levels() ?? []")) or [0.0]


def heard(page: Page) -> tuple[float, list[list[float]]]:
    """The place in the song that is shown, seconds, and the last 2048 samples of each stem, both channels' mean, all of
    one moment: the clock stands meanwhile."""
    position, samples = deck(page, """await (async () => {
        const { context, strips } = deck.player;
        await context.suspend();
        const taken = strips.map(({ meter }) => {
            const samples = new Float32Array(meter.fftSize);
            meter.getFloatTimeDomainData(samples);
            return [...samples];
        });
        const position = deck.position;
        await context.resume();
        return [position, taken];
    })()""")  # fmt: skip
    return float(position), samples


def place(samples: list[float], song: NDArray[np.int16], near_seconds: float) -> tuple[int, float]:
    """Where in the song the samples begin (in samples), and how well they fit there (1: exactly)."""
    first = max(0, round((near_seconds - 2) * RATE_HZ))
    part = song[first : first + 4 * RATE_HZ].mean(axis=1) / 32_768
    wanted = np.array(samples)
    spectrum = np.fft.rfft(part, 2**18) * np.conj(np.fft.rfft(wanted, 2**18))
    products = np.fft.irfft(spectrum)[: len(part) - len(wanted)]
    at = int(np.argmax(products))
    found = part[at : at + len(wanted)]
    fit = float(found @ wanted / np.sqrt((found @ found) * (wanted @ wanted)))
    return first + at, fit


@pytest.mark.parametrize("looks", [(1, 8, 16), pytest.param((1, 20, 40, 61), marks=pytest.mark.slow)])
def test_stems_play_in_step_and_the_song_is_never_all_in_memory(
    browser: Browser, server: InProcess, long_song: str, noise: NDArray[np.int16], looks: tuple[int, ...]
) -> None:
    with opened_page(browser, server.url, at=f"#task/{long_song}") as page:
        play(page)
        began: dict[str, float] = deck(page, "({ at: deck.position, clock: deck.player.context.currentTime })")
        for seconds in looks:
            until(lambda: deck(page, "deck.position") >= seconds, f"{seconds} s were played", seconds=90)  # noqa: B023
            position, stems = heard(page)
            found = [place(samples, noise, position) for samples in stems]
            starts = [start for start, _ in found]
            assert min(fit for _, fit in found) > 0.99
            assert (max(starts) - min(starts)) / RATE_HZ <= 0.001
            # And what is shown is what is heard.
            assert abs(starts[0] / RATE_HZ - position) < 0.5
        ended: dict[str, float] = deck(page, "({ at: deck.position, clock: deck.player.context.currentTime })")
        # No piece was left out: the song went on as the clock did, but where a busy machine brought data late.
        assert -2 < (ended["at"] - began["at"]) - (ended["clock"] - began["clock"]) < 0.05
        blocks: dict[str, int] = deck(page, "({ held: deck.player.blocks.count, most: deck.player.blocks.most })")
        assert blocks["held"] <= blocks["most"] < SONG_SECONDS * RATE_HZ / 131_072 / 2


def test_mute_and_solo_and_volume_change_what_is_heard(page: Page) -> None:
    play(page)
    loud = levels(page)
    page.get_by_role("button", name="Mute Drums").click()
    until(lambda: levels(page)[1] < 0.001, "the drums are silent")
    assert levels(page)[0] > loud[0] / 3
    page.get_by_role("button", name="Mute Drums").click()
    page.get_by_role("button", name="Solo Bass").click()
    until(lambda: max(levels(page)[i] for i in (0, 1, 3)) < 0.001, "the bass is alone")
    assert levels(page)[2] > loud[2] / 3
    expect(page.locator(".lane[data-stem=vocals]")).to_have_attribute("data-heard", "false")
    page.get_by_label("Volume of Bass").fill("40")
    until(lambda: levels(page)[2] < loud[2] / 2, "the bass is quieter")
    expect(page.get_by_label("Volume of Bass")).to_have_attribute("aria-valuetext", re.compile("^.12.0 dB$"))
    page.get_by_role("button", name="Mix as it came").click()
    until(lambda: min(levels(page)) > min(loud) / 2, "all sound again")


def test_pause_keeps_the_place_and_the_end_is_the_end(page: Page) -> None:
    play(page)
    page.get_by_role("button", name="Pause").click()
    paused = deck(page, "deck.position")
    play(page)
    assert 0 <= deck(page, "deck.position") - paused < 5
    page.get_by_label("Position in the song").press("End")
    until(lambda: deck(page, "deck.state") == "paused", "the end was reached")
    assert deck(page, "deck.position") == pytest.approx(8.0, abs=0.01)
    play(page)
    assert deck(page, "deck.position") < 4


def test_a_click_on_a_waveform_seeks_and_a_drag_loops(page: Page, noise: NDArray[np.int16]) -> None:
    wave = page.locator(".lane .wave").first
    box = wave.bounding_box()
    assert box is not None
    x, y, width = box["x"], box["y"] + box["height"] / 2, box["width"]
    page.mouse.click(x + width * 0.75, y)
    assert deck(page, "deck.position") == pytest.approx(6.0, abs=0.05)
    page.mouse.move(x + width * 0.25, y)
    page.mouse.down()
    page.mouse.move(x + width * 0.30, y, steps=3)
    page.mouse.move(x + width * 0.375, y, steps=3)
    page.mouse.up()
    assert deck(page, "[deck.region.start, deck.region.end]") == pytest.approx([2.0, 3.0], abs=0.05)
    play(page)
    clock = deck(page, "deck.player.context.currentTime")
    until(lambda: deck(page, "deck.player.context.currentTime") > clock + 2.5, "the loop went round")
    assert 1.9 < deck(page, "deck.position") < 3.1
    # Across the seam all stems still are at one place.
    position, stems = heard(page)
    found = [place(samples, noise, position) for samples in stems]
    assert len({start for start, _ in found}) == 1
    page.get_by_role("button", name="Loop on or off").click()
    until(lambda: deck(page, "deck.position") > 3.3, "it plays on behind the loop")


def test_everything_can_be_done_by_keyboard(page: Page) -> None:
    page.locator("body").press("Space")
    until(lambda: deck(page, "deck.state") == "playing", "it plays")
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert deck(page, "deck.position") == pytest.approx(5.0, abs=0.01)
    page.keyboard.press("]")
    page.keyboard.press("Home")
    assert deck(page, "deck.region") == {"start": 0, "end": pytest.approx(5.0, abs=0.01)}
    page.keyboard.press("l")
    assert deck(page, "deck.looping") is False
    page.keyboard.press("Escape")
    assert deck(page, "deck.region") is None
    page.keyboard.press("2")
    page.keyboard.press("Shift+Digit3")
    expect(page.get_by_role("button", name="Mute Drums")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Solo Bass")).to_have_attribute("aria-pressed", "true")
    ruler = page.get_by_label("Position in the song")
    ruler.focus()
    page.keyboard.press("ArrowRight")
    expect(ruler).to_have_attribute("aria-valuetext", "0:05 of 0:08")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()


def test_the_mix_is_remembered(page: Page) -> None:
    page.get_by_role("button", name="Mute Vocals").click()
    page.get_by_label("Pan of Other").fill("-50")
    page.reload()
    expect(page.get_by_role("button", name="Mute Vocals")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Pan of Other")).to_have_attribute("aria-valuetext", "50% left")


def test_waveforms_are_drawn_with_the_pixels_of_the_screen(
    browser: Browser, server: InProcess, short_song: str
) -> None:
    with opened_page(browser, server.url, at=f"#task/{short_song}", device_scale_factor=2.5) as page:
        canvas = page.locator(".lane[data-stem=vocals] canvas")
        drawn = """canvas => {
            const { width, height } = canvas;
            const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
            const box = canvas.getBoundingClientRect();
            const row = Math.round(height * 0.46) * width * 4;
            const hit = pixels.slice(row, row + width * 4).filter((value, index) => index % 4 === 3 && value > 0);
            return { x: width / box.width, y: height / box.height, hit: hit.length / width };
        }"""
        until(lambda: canvas.evaluate(drawn)["hit"] > 0.1, "the wave is drawn")
        ratios = canvas.evaluate(drawn)
        assert ratios["x"] == pytest.approx(2.5, abs=0.02)
        assert ratios["y"] == pytest.approx(2.5, abs=0.05)


def test_each_stem_and_all_of_them_can_be_downloaded(page: Page, short_song: str, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.get_by_role("link", name="Download Bass").click()
    download.value.save_as(tmp_path / "bass.wav")
    assert soundfile.info(tmp_path / "bass.wav").frames == 8 * RATE_HZ
    assert "bass" in download.value.suggested_filename
    with page.expect_download() as download:
        page.get_by_role("link", name="All stems (ZIP)").click()
    assert download.value.suggested_filename.endswith(".zip")


def test_the_mix_that_is_downloaded_is_the_mix_that_is_heard(
    page: Page, noise: NDArray[np.int16], tmp_path: Path
) -> None:
    page.get_by_role("button", name="Mute Vocals").click()
    page.get_by_label("Volume of Drums").fill("40")  # a quarter: half the way, squared
    page.get_by_label("Pan of Bass").fill("100")
    with page.expect_download() as download:
        page.get_by_role("button", name="This mix (WAV)").click()
    download.value.save_as(tmp_path / "mix.wav")
    mix, rate = soundfile.read(tmp_path / "mix.wav")
    song = noise[: 8 * RATE_HZ] / 32_768
    left = 1.25 * song[:, 0]
    right = 2.25 * song[:, 1] + song[:, 0]
    assert rate == RATE_HZ
    assert mix.shape == song.shape
    assert np.abs(mix - np.stack([left, right], axis=1)).max() < 1.5 / 32_768
    expect(page.get_by_role("button", name="This mix (WAV)")).to_be_enabled()


def test_a_mix_that_would_clip_is_turned_down(page: Page, noise: NDArray[np.int16], tmp_path: Path) -> None:
    for stem in ("Vocals", "Drums", "Bass", "Other"):
        page.get_by_label(f"Volume of {stem}").fill("100")
    with page.expect_download() as download:
        page.get_by_role("button", name="This mix (WAV)").click()
    download.value.save_as(tmp_path / "mix.wav")
    mix, _ = soundfile.read(tmp_path / "mix.wav")
    song = noise[: 8 * RATE_HZ] / 32_768
    assert np.abs(song).max() * 4 * (1 / 0.8) ** 2 > 1
    assert np.abs(mix).max() == pytest.approx(0.999, abs=0.001)
    assert np.abs(mix - song * (np.abs(mix).max() / np.abs(song).max())).max() < 1e-3
    expect(page.locator(".takeaway-said")).to_contain_text("Turned down by")


def test_pans_are_those_of_the_browser(page: Page) -> None:
    pans = [-1.0, -0.6, 0.0, 0.3, 1.0]
    found: list[Any] = page.evaluate(
        """async (pans) => {
            const { addStem } = await import("/static/js/audio/gains.js");
            const sound = [Float32Array.of(0.5, -0.25, 0.125), Float32Array.of(0.1, 0.2, -0.3)];
            return Promise.all(pans.flatMap((pan) => [1, 2].map(async (channels) => {
                const context = new OfflineAudioContext(2, 3, 44100);
                const buffer = new AudioBuffer({ length: 3, numberOfChannels: channels, sampleRate: 44100 });
                sound.slice(0, channels).forEach((samples, index) => buffer.copyToChannel(samples, index));
                const source = new AudioBufferSourceNode(context, { buffer });
                source.connect(new StereoPannerNode(context, { pan })).connect(context.destination);
                source.start();
                const rendered = await context.startRendering();
                const mix = { left: new Float32Array(3), right: new Float32Array(3) };
                addStem(mix, sound.slice(0, channels), 1, pan);
                return [[...rendered.getChannelData(0), ...rendered.getChannelData(1)], [...mix.left, ...mix.right]];
            })));
        }""",
        pans,
    )
    assert len(found) == 2 * len(pans)
    for rendered, mixed in found:
        assert mixed == pytest.approx(rendered, abs=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_files_are_read_as_they_are_written(page: Page, tmp_path: Path, subtype: str, channels: int) -> None:
    song = np.random.default_rng(3).uniform(-0.9, 0.9, (500, channels))
    soundfile.write(tmp_path / "song.wav", song, 48_000, subtype=subtype)
    read: Any = page.evaluate(
        """async (bytes) => {
            const { decodeFrames, readHeader } = await import("/static/js/audio/wav.js");
            const file = Uint8Array.from(bytes).buffer;
            const layout = readHeader(file, file.byteLength);
            const frameBytes = layout.channels * layout.bits / 8;
            const data = file.slice(layout.dataStart, layout.dataStart + layout.frames * frameBytes);
            return { rate: layout.sampleRate, samples: decodeFrames(data, layout).map((each) => [...each]) };
        }""",
        list((tmp_path / "song.wav").read_bytes()),
    )
    expected, _ = soundfile.read(tmp_path / "song.wav", always_2d=True)
    assert read["rate"] == 48_000
    assert np.abs(np.array(read["samples"]).T - expected).max() < 1e-6
