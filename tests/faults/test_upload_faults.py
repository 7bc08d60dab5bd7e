"""Uploads that lie, stall, break off or find the disk full: each is told why, and none leaves anything behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demucs_server_worker.server import uploads as uploads_module
from demucs_server_worker.server.folders import folders_of
from demucs_server_worker.server.uploads import UploadStore
from demucs_server_worker.task import Task, TaskState
from tests.assistants import scripted
from tests.http_server import API, DEADLINE_SECONDS, InProcess, commanded, serving, write_song
from tests.managers import run
from tests.raw_http import END, Answer, Connection, chunk, connected, form, head, part

PATIENCE_SECONDS = 1.0
LIMIT_BYTES = 2_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("faults")
    with serving(folder, upload_patience=PATIENCE_SECONDS, max_file_size=LIMIT_BYTES) as server:
        yield server


@pytest.fixture
def song(server: InProcess) -> bytes:
    return (server.folder / "song.wav").read_bytes()


@pytest.fixture(autouse=True)
def nothing_left(server: InProcess, request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of this file that uses the shared server leaves no task and no folder on it."""
    yield
    until(lambda: left(server) == [], f"nothing is left, but there is {left(server)}")
    assert tasks(server) == []


def left(server: InProcess) -> list[str]:
    data = server.folder / "data"
    return [str(path) for name in ("uploads", "results") for path in (data / name).glob("*")]


def tasks(server: InProcess) -> list[Task]:
    async def get() -> list[Task]:
        return list(server.manager.list_tasks().tasks)

    return server.call(get())


def until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"in vain waited until {what}"
        time.sleep(0.01)


def begun(server: InProcess) -> None:
    """Wait until the server has begun to write an upload."""
    until(lambda: list((server.folder / "data" / "uploads").glob("*/song")), "an upload has begun")


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.problem["code"], answer.ended) == (status, code, True), answer


# --- lengths ---------------------------------------------------------------------------------------------------------


def test_a_declared_size_past_the_limit_is_refused_before_a_byte_of_it_is_sent(server: InProcess) -> None:
    with connected(server.url) as client:
        client.send(head(LIMIT_BYTES + 2 * 1024 * 1024, Expect="100-continue"))
        refused(client.answer(), 413, "input_too_large")


def test_a_client_that_sends_all_the_same_still_reads_why(server: InProcess) -> None:
    body = form(b"x" * (LIMIT_BYTES + 2 * 1024 * 1024))
    with connected(server.url) as client:
        client.send(head(len(body)) + body)
        refused(client.answer(), 413, "input_too_large")


def test_a_song_just_past_the_limit_is_refused_whatever_its_fields(server: InProcess) -> None:
    body = form(b"x" * (LIMIT_BYTES + 1), stems="vocals")
    with connected(server.url) as client:
        client.send(head(len(body)) + body)
        assert client.answer().problem["code"] == "input_too_large"


@pytest.mark.parametrize("asks", [False, True], ids=["sends", "asks before it sends"])
def test_chunks_past_the_limit_are_refused_while_they_come(server: InProcess, asks: bool) -> None:
    with connected(server.url) as client:
        client.send(head(None, **({"Expect": "100-continue"} if asks else {})))
        if asks:
            assert client.answer_line().startswith(b"HTTP/1.1 100 ")
        client.send(chunk(part("file", b"", "song.wav").removesuffix(b"\r\n")))
        pumping = threading.Thread(target=_pump, args=(client, 100_000, LIMIT_BYTES * 4))
        pumping.start()
        refused(client.answer(), 413, "input_too_large")
    pumping.join(DEADLINE_SECONDS)


def test_fields_that_grow_without_end_are_refused_while_they_come(server: InProcess, song: bytes) -> None:
    with connected(server.url) as client:
        opening = part("file", song, "song.wav") + part("projectName", b"").removesuffix(b"\r\n")
        client.send(head(None) + chunk(opening))
        pumping = threading.Thread(target=_pump, args=(client, 10_000, 10_000_000))
        pumping.start()
        refused(client.answer(), 400, "invalid_request")
    pumping.join(DEADLINE_SECONDS)


def _pump(client: Connection, size: int, total: int) -> None:
    """Send chunks until there are enough, or nobody takes them."""
    try:
        for _ in range(total // size):
            client.send(chunk(b"x" * size))
    except OSError:
        return


def test_a_length_that_is_too_short_leaves_nothing(server: InProcess, song: bytes) -> None:
    body = form(song)
    with connected(server.url) as client:
        client.send(head(len(body) - 10) + body)
        answer = client.answer()
        assert (answer.status, answer.problem["code"]) == (400, "invalid_request")
        assert "broke off" in answer.problem["detail"]


@pytest.mark.parametrize("length", ["-1", "1e3", "12, 13", "٣"])
def test_a_length_that_is_none_is_refused(server: InProcess, length: str) -> None:
    with connected(server.url) as client:
        client.send(head(0).replace(b"Content-Length: 0", f"Content-Length: {length}".encode()))
        assert client.answer_line().startswith(b"HTTP/1.1 400")


# --- pace ------------------------------------------------------------------------------------------------------------


def test_an_upload_that_stalls_is_ended_and_leaves_nothing(server: InProcess, song: bytes) -> None:
    with connected(server.url) as client:
        client.send(head(LIMIT_BYTES) + part("file", song, "song.wav"))
        refused(client.answer(), 408, "too_slow")


def test_an_upload_of_a_byte_now_and_then_is_ended_too(server: InProcess) -> None:
    with connected(server.url) as client:
        client.send(head(LIMIT_BYTES) + part("file", b"", "song.wav").removesuffix(b"\r\n"))
        over = threading.Event()

        def trickle() -> None:
            while not over.wait(PATIENCE_SECONDS / 20):
                try:
                    client.send(b"x")
                except OSError:
                    return

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            refused(client.answer(), 408, "too_slow")
        finally:
            over.set()
            trickling.join(DEADLINE_SECONDS)


# --- broken off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_an_upload_that_breaks_off_leaves_nothing(server: InProcess, song: bytes, reset: bool) -> None:
    with connected(server.url) as client:
        client.send(head(LIMIT_BYTES) + part("file", song, "song.wav"))
        begun(server)
        if reset:
            client.break_off()


def test_an_upload_in_chunks_that_breaks_off_leaves_nothing(server: InProcess, song: bytes) -> None:
    with connected(server.url) as client:
        client.send(head(None) + chunk(part("file", song, "song.wav")))
        begun(server)


def test_chunks_that_end_before_the_form_does_leave_nothing(server: InProcess, song: bytes) -> None:
    with connected(server.url) as client:
        client.send(head(None) + chunk(part("file", song, "song.wav")) + chunk(b""))
        assert client.answer().problem["code"] == "invalid_request"


# --- whoever waits for it --------------------------------------------------------------------------------------------


def test_a_client_that_leaves_after_its_last_byte_leaves_a_task_with_its_song(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with serving(tmp_path) as server:
        server.services.assistant._command = scripted()
        body = form((tmp_path / "song.wav").read_bytes(), inputName=f"wait {go}", fileId="left")
        with connected(server.url) as client:
            client.send(head(len(body)) + body)
            until(lambda: server.services.assistant._busy, "the song is being probed")
            client.break_off()
        go.touch()
        until(lambda: tasks(server), "there is a task")
        (task,) = tasks(server)
        folders = folders_of(task, tmp_path / "data")
        assert folders is not None
        assert folders.song.read_bytes() == (tmp_path / "song.wav").read_bytes()


def test_without_an_assistant_songs_are_taken_unseen(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.services.assistant._command = scripted("dead")
        answer = server.client.post(
            f"{API}/tasks", files={"file": ("a.wav", b"whatever")}, data={"inputName": "succeed"}
        )
        assert (answer.status_code, answer.json()["durationSeconds"]) == (202, None)
        server.until_state(answer.json()["id"], "completed")


def test_a_song_that_kills_the_assistant_is_refused_and_the_next_one_taken(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.services.assistant._command = scripted()
        song = (tmp_path / "song.wav").read_bytes()
        answers = [
            server.client.post(f"{API}/tasks", files={"file": ("a.wav", song)}, data={"inputName": name})
            for name in ("segfault", "succeed")
        ]
        assert [(a.status_code, a.json().get("code")) for a in answers] == [(415, "input_unreadable"), (202, None)]
        assert len(list((tmp_path / "data" / "uploads").iterdir())) == 1


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose uploads lie on a disk of one megabyte."""
    mount = shutil.which("mount")
    folder = tmp_path / "data" / "uploads"
    folder.mkdir(parents=True)
    if mount is None or os.geteuid() != 0:
        pytest.skip("a small disk needs root")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False)
    if made.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


def test_a_disk_without_room_refuses_before_the_song_is_sent(small_disk: Path) -> None:
    with serving(small_disk) as server, connected(server.url) as client:
        client.send(head(5_000_000, Expect="100-continue"))
        refused(client.answer(), 507, "disk_full")
        assert left(server) == []


def test_a_disk_that_fills_up_on_the_way_refuses_and_leaves_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_module, "RESERVE_BYTES", 0)
    with serving(small_disk) as server:
        with connected(server.url) as client:
            client.send(head(None) + chunk(part("file", b"", "song.wav").removesuffix(b"\r\n")))
            pumping = threading.Thread(target=_pump, args=(client, 100_000, 6_000_000))
            pumping.start()
            answer = client.answer()
            refused(answer, 507, "disk_full")
            assert str(small_disk) not in answer.problem["detail"]
        pumping.join(DEADLINE_SECONDS)
        assert left(server) == []
        song = (small_disk / "song.wav").read_bytes()
        assert server.client.post(f"{API}/tasks", files={"file": ("a.wav", song)}).status_code == 202


def test_a_song_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    store = UploadStore(tmp_path)

    async def scene() -> list[str]:
        incoming = await store.begin(None)
        await incoming.write(b"a song")
        await incoming.seal()
        folders = incoming.folders
        assert folders.song.read_bytes() == b"a song"
        return [str(folders.song), str(folders.upload), str(folders.upload.parent)]

    assert run(scene()) == synced
    store.close()


# --- crashes ---------------------------------------------------------------------------------------------------------


def test_the_next_start_removes_what_a_crash_left_and_keeps_what_tasks_need(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        song = (tmp_path / "song.wav").read_bytes()
        kept = server.client.post(f"{API}/tasks", files={"file": ("a.wav", song)}, data={"inputName": "succeed"}).json()
        server.until_state(kept["id"], TaskState.COMPLETED)
        before = left(server)
    for name in ("uploads", "results"):
        (tmp_path / "data" / name / "0123abcd").mkdir()
        (tmp_path / "data" / name / "0123abcd" / "song").write_bytes(b"half a so")
    with serving(tmp_path) as server:
        assert left(server) == before
        assert len(before) == 2
        assert server.task(kept["id"])["state"] == "completed"


def test_a_hundred_megabytes_in_chunks_pass_through_flat_memory(tmp_path: Path) -> None:
    with commanded(tmp_path, DEMUCS_WORKER_UPLOAD_PATIENCE="60", DEMUCS_WORKER_PRELOAD="false") as server:
        process = psutil.Process(server.process.process.pid)
        before, most = process.memory_info().rss, 0
        with connected(server.url) as client:
            client.send(head(None) + chunk(part("file", b"", "song.wav").removesuffix(b"\r\n")))
            piece = chunk(b"x" * 1_000_000)
            for _ in range(99):
                client.send(piece)
                most = max(most, process.memory_info().rss)
            client.send(chunk(b"\r\n" + END) + chunk(b""))
            answer = client.answer()
        assert (answer.status, answer.problem["code"]) == (415, "unsupported_format")
        assert most - before < 30_000_000
        assert list((tmp_path / "data" / "uploads").iterdir()) == []
        write_song(tmp_path / "again.wav")
        again = server.client.post(f"{API}/tasks", files={"file": ("a.wav", (tmp_path / "again.wav").read_bytes())})
        assert again.status_code == 202
