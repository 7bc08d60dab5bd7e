"""`Client` and `AsyncClient` against a real server, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demucs_server_worker.client import AsyncClient, Client
from demucs_server_worker.errors import (
    IllegalTransition,
    ServerUnreachable,
    TaskCancelled,
    TaskConflict,
    TaskFailed,
    TaskNotFound,
    Unauthorized,
    UnsupportedFormat,
)
from tests.command import song
from tests.http_server import InProcess, serving

DEADLINE_SECONDS = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("server"), workers=2) as server:
        song(server.folder / "song.wav")
        yield server


@pytest.fixture
def client(server: InProcess) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def scripted(server: InProcess, script: str, **fields: Any) -> dict[str, Any]:
    """The arguments of a task that makes a scripted worker do `script`."""
    return {
        "input_path": server.folder / "song.wav", "output_dir": server.folder / "out", "input_name": script, **fields,
    }  # fmt: skip


def test_a_task_over_paths_is_followed_from_the_queue_to_its_end(server: InProcess, client: Client) -> None:
    heard: list[str] = []
    task = client.submit(**scripted(server, "succeed", project_name="P", priority="high", stems=["vocals"]))
    assert (task.project_name, task.priority, task.options.stems) == ("P", "high", ("vocals",))
    done = client.wait(task.id, timeout=DEADLINE_SECONDS, on_event=lambda event: heard.append(event.event.value))
    assert (done.state, done.progress, heard[-1]) == ("completed", 1.0, "completed")
    assert client.task(task.id) == done
    assert [event.event.value for event in client.events(task.id)][-1] == "completed"
    assert task.id in [each.id for each in client.tasks("completed")]


def test_how_tasks_end_is_raised(server: InProcess, client: Client) -> None:
    task = client.submit(**scripted(server, "raise unreadable"))
    with pytest.raises(TaskFailed) as caught:
        client.wait(task.id, timeout=DEADLINE_SECONDS)
    assert caught.value.error.code == "input_unreadable"
    waiting = client.submit(**scripted(server, "wait"))
    assert client.cancel(waiting.id).state == "cancelled"
    with pytest.raises(TaskCancelled):
        client.wait(waiting.id, timeout=DEADLINE_SECONDS)
    with pytest.raises(IllegalTransition):
        client.cancel(waiting.id)
    assert client.retry(waiting.id).state == "queued"
    client.cancel(waiting.id)
    client.delete(waiting.id)
    with pytest.raises(TaskNotFound):
        client.task(waiting.id)


def test_a_wait_gives_up_when_it_was_told_to_and_the_task_goes_on(server: InProcess, client: Client) -> None:
    task = client.submit(**scripted(server, "wait"))
    with pytest.raises(TimeoutError):
        client.wait(task.id, timeout=0.2)
    assert client.task(task.id).state in ("queued", "running")
    client.cancel(task.id)


def test_an_upload_is_streamed_with_its_fields_and_told_on_the_way(server: InProcess, client: Client) -> None:
    told: list[tuple[int, int | None]] = []
    file = song(server.folder / 'sent "ä" 1.wav', 3.0)
    sent = client.submit(
        file, input_name="wait", stems="vocals,drums", format="flac", bit_depth=24, overlap=0.1, split=True,
        on_progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert (sent.options.stems, sent.options.format, sent.options.bit_depth) == (("vocals", "drums"), "flac", "24")
    assert (sent.duration_seconds, sent.options.overlap) == (3.0, 0.1)
    assert told[-1][0] == told[-1][1] > file.stat().st_size
    client.cancel(sent.id)


def test_the_same_file_id_is_the_same_task_however_the_song_is_given(server: InProcess, client: Client) -> None:
    file = server.folder / "song.wav"
    first = client.submit(file, file_id="once ä", input_name="wait")
    with file.open("rb") as stream:
        assert client.submit(stream, file_id="once ä", input_name="wait").id == first.id
    with pytest.raises(TaskConflict):
        client.submit(file, file_id="once ä", input_name="wait", format="mp3")
    client.cancel(first.id)


def test_what_is_no_song_is_refused_as_in_process(server: InProcess, client: Client) -> None:
    (server.folder / "text.mp3").write_text("no song")
    with pytest.raises(UnsupportedFormat, match=r"text\.mp3"):
        client.submit(server.folder / "text.mp3")


def test_what_the_server_is_and_has(server: InProcess, client: Client) -> None:
    assert client.health().ready and client.health().workers == 2
    assert [worker.id for worker in client.status().workers] == ["worker-1", "worker-2"]
    models = client.models()
    assert models.default in [model.name for model in models.models]


def test_all_events_come_to_whoever_listens_to_all(server: InProcess, client: Client) -> None:
    listening, heard = threading.Event(), []

    def listen() -> None:
        with Client(server.url) as other:
            for event in other.events():
                heard.append((event.task_id, event.event.value))
                listening.set()
                if event.event.value == "completed":
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    tasks = []
    while not listening.wait(0.05) or thread.is_alive():
        tasks.append(client.submit(**scripted(server, "succeed")).id)
        thread.join(0.2)
    thread.join(DEADLINE_SECONDS)
    assert heard[-1][0] in tasks and heard[-1][1] == "completed"


def test_the_asynchronous_client_does_the_same(server: InProcess) -> None:
    heard: list[str] = []

    async def scene() -> None:
        async with AsyncClient(server.url) as client:
            sent = await asyncio.gather(*(client.submit(**scripted(server, "succeed")) for _ in range(5)))

            async def hear(event: Any) -> None:
                heard.append(event.event.value)

            done = await asyncio.gather(*(client.wait(task.id, on_event=hear) for task in sent))
            assert {task.state.value for task in done} == {"completed"}
            listed = [task.id async for task in client.tasks(limit=5)]
            assert set(listed) == {task.id for task in sent}
            assert [event.event.value async for event in client.events(sent[0].id)][-1] == "completed"
            upload = await client.submit(server.folder / "song.wav", input_name="wait")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.wait(upload.id)
            assert (await client.cancel(upload.id)).state == "cancelled"

    asyncio.run(asyncio.wait_for(scene(), DEADLINE_SECONDS))
    assert heard.count("completed") == 5


def test_a_key_is_shown_and_a_wrong_one_is_an_error(tmp_path: Path) -> None:
    with serving(tmp_path, api_keys="right-key-of-some-length") as server:
        for wrong in (None, "wrong"):
            with Client(server.url, wrong) as client, pytest.raises(Unauthorized):
                client.status()
        with Client(server.url, "right-key-of-some-length") as client:
            assert client.status().accepting


def test_a_proxy_of_the_environment_is_not_asked_about_this_machine(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Client(server.url) as client:
        assert client.status().accepting


def test_a_server_that_is_not_there_says_what_to_do() -> None:
    said = r"http://localhost:9 \(connection refused\).*demucs-server-worker serve"
    with Client("http://localhost:9") as client, pytest.raises(ServerUnreachable, match=said):
        client.status()

    async def scene() -> None:
        async with AsyncClient("http://localhost:9") as client:
            await client.status()

    with pytest.raises(ServerUnreachable, match=said):
        asyncio.run(scene())
