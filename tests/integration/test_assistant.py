"""The assistant: real songs in real children, and children that crash, hang, swell and never start."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog
from structlog.testing import capture_logs

from demucs_server_worker.assistant.assistant import Assistant
from demucs_server_worker.assistant.helper import HELPER_COMMAND, HelperLost
from demucs_server_worker.assistant.messages import Chore, Probe, Probed
from demucs_server_worker.errors import (
    AssistantFailed,
    InputNotFound,
    InputTooLarge,
    InputTooLong,
    InputUnreadable,
    NoAudio,
    UnsupportedFormat,
    WorkerFailure,
)
from tests.assistants import scripted
from tests.audio_files import ENCODERS, tones, write_coded, write_pcm
from tests.managers import run

RATE = 48_000


@asynccontextmanager
async def assistant(command: tuple[str, ...] = HELPER_COMMAND, **values: Any) -> AsyncIterator[Assistant]:
    made = Assistant(command=command, **values)
    try:
        yield made
    finally:
        await made.stop()


def children() -> list[psutil.Process]:
    """Children of this process that live and belong to an assistant."""
    return [
        child for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "assistant" in " ".join(child.cmdline())
    ]  # fmt: skip


# --- real songs ------------------------------------------------------------------------------------------------------


def test_songs_of_every_format_are_measured_by_one_child(tmp_path: Path) -> None:
    songs = [write_coded(tmp_path / f"song.{kind}", tones(RATE * 5, RATE), RATE, kind) for kind in ENCODERS]

    async def scene() -> list[Probed | None]:
        async with assistant() as helper:
            found = [await helper.probe(song, song.name) for song in songs]
            assert len(children()) == 1
            return found

    for song, probed in zip(songs, run(scene()), strict=True):
        assert probed is not None
        assert (probed.sample_rate, probed.channels) == (RATE, 2), song
        # Only a guess for bare AAC frames, which have no header.
        assert probed.duration_seconds == pytest.approx(5.0, rel=0.5 if song.suffix == ".aac" else 0.02), song
    assert children() == []


def test_hopeless_files_are_refused_as_a_worker_would(tmp_path: Path) -> None:
    good = write_pcm(tmp_path / "good.flac", tones(RATE * 5, RATE), RATE, "PCM_16")
    ogg = write_coded(tmp_path / "good.opus", tones(RATE * 5, RATE), RATE, "opus")
    slow = write_pcm(tmp_path / "slow.wav", tones(4_000, 4_000), 4_000, "PCM_16")
    text, empty, cut = tmp_path / "text.mp3", tmp_path / "empty.wav", tmp_path / "cut.flac"
    text.write_text("#EXTM3U\nhttp://127.0.0.1:1/x.mp3\n")
    empty.write_bytes(b"")
    cut.write_bytes(good.read_bytes()[:20])
    silent = write_pcm(tmp_path / "silent.wav", tones(0, RATE), RATE, "PCM_16")
    cases: list[tuple[Path, dict[str, Any], type[Exception]]] = [
        (text, {}, UnsupportedFormat),
        (empty, {}, UnsupportedFormat),
        (slow, {}, UnsupportedFormat),
        (cut, {}, InputUnreadable),
        (tmp_path, {}, InputUnreadable),
        (silent, {}, NoAudio),
        (tmp_path / "nowhere.wav", {}, InputNotFound),
        (good, {"max_file_bytes": 1_000}, InputTooLarge),
        (good, {"max_duration_seconds": 4.9}, InputTooLong),
        (ogg, {"max_duration_seconds": 4.9}, InputTooLong),
    ]

    async def scene() -> None:
        async with assistant() as helper:
            for path, limits, error in cases:
                with pytest.raises(error, match=r"a song\.mp3"):
                    await helper.probe(path, "a song.mp3", **limits)
            assert len(children()) == 1  # the same one still

    run(scene())


def test_a_length_that_is_only_guessed_refuses_nobody(tmp_path: Path) -> None:
    song = write_coded(tmp_path / "song.aac", tones(RATE * 5, RATE), RATE, "aac")

    async def scene() -> Probed | None:
        async with assistant() as helper:
            return await helper.probe(song, song.name, max_duration_seconds=0.5)

    assert run(scene()) is not None


def test_a_child_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, demucs_server_worker.assistant.child, demucs_server_worker.assistant.probing;"
        "print([name for name in ('torch', 'demucs', 'soxr', 'pydantic') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- children that misbehave -----------------------------------------------------------------------------------------


def test_a_file_that_crashes_the_decoder_is_unreadable_and_the_next_one_is_fine(tmp_path: Path) -> None:
    started = tmp_path / "started"

    async def scene() -> None:
        async with assistant(scripted(note=started)) as helper:
            with pytest.raises(InputUnreadable, match="segfault cannot be decoded: the decoder breaks down over it"):
                await helper.probe(tmp_path, "segfault")
            assert await helper.probe(tmp_path, "fine") is not None

    run(scene())
    assert len(started.read_text().split()) == 3  # two that it killed, since one may die by chance


def test_a_child_that_dies_by_chance_is_replaced_and_the_file_probed_again(tmp_path: Path) -> None:
    async def scene() -> Probed | None:
        async with assistant(scripted()) as helper:
            return await helper.probe(tmp_path, f"crash-once {tmp_path / 'crashed'}")

    assert run(scene()) is not None


def test_a_child_that_dies_while_idle_is_not_noticed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with assistant(scripted()) as helper:
            first = await helper.probe(tmp_path, "fine")
            assert first is not None
            os.kill(first.sample_rate, signal.SIGKILL)
            second = await helper.probe(tmp_path, "fine")
            assert second is not None
            assert second.sample_rate != first.sample_rate

    run(scene())


@pytest.mark.parametrize("script", ["hang", "stop"])
def test_a_file_over_which_the_decoder_never_ends_is_unreadable(
    tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Probe, "deadline_seconds", 0.3)

    async def scene() -> None:
        async with assistant(scripted()) as helper:
            with pytest.raises(InputUnreadable, match=r"after 0\.3 seconds"):
                await helper.probe(tmp_path, script)
            assert children() == []

    run(scene())


def test_what_a_child_says_is_not_about_the_request_that_it_was_started_for(tmp_path: Path) -> None:
    structlog.reset_defaults()  # the level of an earlier test may hide it

    async def scene() -> None:
        with capture_logs([structlog.contextvars.merge_contextvars]) as logs:
            async with assistant(scripted("dead")) as helper:
                with structlog.contextvars.bound_contextvars(request="r1"):
                    await helper.probe(tmp_path, "fine")
        said = [line for line in logs if line["event"] == "no module named av"]
        assert said
        assert not any("request" in line for line in said)

    run(scene())


@pytest.mark.parametrize("script", ["garble", "print"])
def test_what_a_library_prints_is_no_answer(tmp_path: Path, script: str) -> None:
    async def scene() -> Probed | None:
        async with assistant(scripted()) as helper:
            return await helper.probe(tmp_path, script)

    assert run(scene()) is not None


def test_a_child_that_swells_is_replaced_after_its_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        async with assistant(scripted()) as helper:
            swollen = await helper.probe(tmp_path, "swell 450000000")
            assert swollen is not None
            slim = await helper.probe(tmp_path, "fine")
            assert slim is not None
            assert slim.sample_rate != swollen.sample_rate
            assert [child.pid for child in children()] == [slim.sample_rate]

    run(scene())


def test_a_file_that_wants_all_memory_gets_none_and_the_child_lives_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with assistant(scripted()) as helper:
            before = await helper.probe(tmp_path, "fine")
            with pytest.raises(WorkerFailure) as caught:
                await helper.do(Probe(path="/", name="hunger"), Probed)
            assert caught.value.code == "out_of_memory"
            after = await helper.probe(tmp_path, "fine")
            assert before is not None
            assert after is not None
            assert after.sample_rate == before.sample_rate

    run(scene())


def test_errors_of_a_chore_are_raised_in_the_parent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with assistant(scripted()) as helper:
            with pytest.raises(NoAudio, match="it has no sound track"):
                await helper.probe(tmp_path, "refuse")
            with pytest.raises(WorkerFailure, match="that is a surprise"):
                await helper.probe(tmp_path, "surprise")

    run(scene())


def test_a_caller_who_is_cancelled_leaves_no_child_at_work(tmp_path: Path) -> None:
    async def scene() -> None:
        async with assistant(scripted()) as helper:
            asking = asyncio.create_task(helper.probe(tmp_path, "hang"))
            while not helper._busy:
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.wait({asking})
            assert asking.cancelled()
            assert children() == []
            assert await helper.probe(tmp_path, "fine") is not None

    run(scene())


def test_two_children_at_most_share_many_chores_and_a_long_one_leaves_room(tmp_path: Path) -> None:
    class Long(Probe, frozen=True, kw_only=True, tag="probe"):
        is_long = True

    async def scene() -> None:
        async with assistant(scripted()) as helper:
            long: list[asyncio.Task[Any]] = [asyncio.create_task(helper.do(_long(Long), Probed)) for _ in range(3)]
            found = await asyncio.gather(*(helper.probe(tmp_path, "fine") for _ in range(50)))
            assert len({probed.sample_rate for probed in found if probed}) == 1
            assert len(children()) == 2
            for task in long:
                task.cancel()
            await asyncio.wait(long)

    run(scene())


def _long(kind: type[Chore]) -> Chore:
    return kind(path="/", name="hang")  # type: ignore[call-arg]


def test_where_no_child_starts_songs_go_unprobed_and_it_is_not_tried_in_a_loop(tmp_path: Path) -> None:
    started = tmp_path / "started"
    now = 100.0

    async def scene() -> None:
        nonlocal now
        async with assistant(scripted("dead", started), clock=lambda: now) as helper:
            for _ in range(20):
                assert await helper.probe(tmp_path, "fine") is None
            with pytest.raises(AssistantFailed, match="no module named av"):
                await helper.do(Probe(path="/", name="fine"), Probed)
            assert len(started.read_text().split()) == 1
            now += 1.1
            assert await helper.probe(tmp_path, "fine") is None
            now += 1.1  # the delay doubles
            assert await helper.probe(tmp_path, "fine") is None

    run(scene())
    assert len(started.read_text().split()) == 2


def test_a_child_gets_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMUCS_WORKER_API_KEYS", "very secret")

    async def scene() -> Probed | None:
        async with assistant(scripted()) as helper:
            return await helper.probe(tmp_path, "secrets")

    probed = run(scene())
    assert probed is not None
    assert probed.codec == ""


@pytest.mark.parametrize("script", ["fine", "hang", "stop"])
def test_a_child_dies_with_its_parent(tmp_path: Path, script: str) -> None:
    note = tmp_path / "started"
    code = f"""
import asyncio, sys
from pathlib import Path
from demucs_server_worker.assistant.assistant import Assistant
async def main():
    helper = Assistant(command={scripted(note=note)!r})
    await helper.probe(Path("/"), "fine")
    print("up", flush=True)
    await helper.probe(Path("/"), {script!r})
    await asyncio.sleep(600)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        child = psutil.Process(int(note.read_text().split()[0]))
    finally:
        parent.kill()
        parent.communicate()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_child_that_cannot_be_understood_twice_is_an_error_of_do(tmp_path: Path) -> None:
    async def scene() -> None:
        async with assistant(scripted()) as helper:
            with pytest.raises(HelperLost, match="killed by signal 11"):
                await helper.do(Probe(path="/", name="segfault"), Probed)

    run(scene())
