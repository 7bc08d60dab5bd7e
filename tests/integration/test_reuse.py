"""Answered at once: the same song with the same options is not computed again while its stems are there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from demucs_server_worker.answers import ANSWERER
from demucs_server_worker.assistant.assistant import Assistant
from demucs_server_worker.errors import AssistantFailed, TaskConflict
from demucs_server_worker.events import Event, EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.task import Origin, Task, TaskRequest, TaskState
from tests.audio_files import tones, write_pcm
from tests.managers import heard, left_behind, manager, run
from tests.model_repo import define_bag

RATE = 8_000


def upload(folder: Path, *, seed: int = 0, **fields: Any) -> TaskRequest:
    """A request as the server makes it of an upload: song and stems in private folders."""
    own = uuid.uuid4().hex
    song = folder / "data" / "uploads" / own / "song"
    song.parent.mkdir(parents=True)
    write_pcm(song, tones(RATE, RATE, seed=seed), RATE, "PCM_16", "WAV")
    values = {"model": "demo", "input_name": "copy", **fields}
    wanted = TaskRequest.parse({**values, "input_path": song, "output_dir": folder / "data" / "results" / own})
    sha256 = hashlib.sha256(song.read_bytes()).hexdigest()
    return msgspec.structs.replace(wanted, origin=Origin.UPLOAD, input_sha256=sha256)


async def done(manager: WorkerManager, wanted: TaskRequest) -> Task:
    task, _ = await manager.submit(wanted)
    return await manager.wait(task.id)


@asynccontextmanager
async def encoding(manager: WorkerManager, assistant: Any = None) -> AsyncIterator[WorkerManager]:
    """The manager with somebody who encodes."""
    assistant = assistant or Assistant()
    async with manager:
        manager.encode_with(assistant)
        try:
            yield manager
        finally:
            if isinstance(assistant, Assistant):
                await assistant.stop()


def kinds(events: list[Event], task: Task) -> list[tuple[EventKind, str | None]]:
    return [(event.kind, event.worker_id) for event in events if event.task_id == task.id]


def inode(task: Task) -> int:
    return Path(task.stems[0].path).stat().st_ino


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def test_the_same_again_is_completed_when_it_is_submitted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on, heard(on) as events:
            first = await done(on, upload(tmp_path))
            again, is_new = await on.submit(upload(tmp_path, input_name="copy of it.wav", priority="low"))
            await until_told(events, again)
            assert (again.state, again.cached, is_new) == (TaskState.COMPLETED, True, True)
            assert (first.cached, first.result_key) == (False, again.result_key)
            assert [(s.name, s.sha256, s.bytes, s.peak) for s in again.stems] == [
                (s.name, s.sha256, s.bytes, s.peak) for s in first.stems
            ]
            assert again.stems[0].path == f"{again.request.output_dir}/copy of it/vocals.wav"
            assert kinds(events, again) == [
                (EventKind.QUEUED, None), (EventKind.STARTED, ANSWERER), (EventKind.COMPLETED, ANSWERER),
            ]  # fmt: skip
            assert inode(again) == inode(first)
            manifest = json.loads((Path(again.request.output_dir) / "copy of it" / "manifest.json").read_text())
            assert manifest["source"]["name"] == "copy of it.wav"
            assert [stem["path"] for stem in manifest["stems"]] == ["vocals.wav", "other.wav"]
            assert not list((tmp_path / "data" / "staging").iterdir())

    run(scene())


async def until_running(manager: WorkerManager, task: Task) -> None:
    while manager.get_task(task.id).state is not TaskState.RUNNING:
        await asyncio.sleep(0.005)


async def until_told(events: list[Event], task: Task) -> None:
    while EventKind.COMPLETED not in [event.kind for event in events if event.task_id == task.id]:
        await asyncio.sleep(0.005)


def test_it_needs_no_worker_and_no_room_in_the_queue(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, max_queued=1) as on:
            await done(on, upload(tmp_path))
            busy, _ = await on.submit(upload(tmp_path, seed=1, input_name="wait"))
            await until_running(on, busy)
            await on.submit(upload(tmp_path, seed=1, input_name="succeed"))
            again, _ = await on.submit(upload(tmp_path))
            assert again.state is TaskState.COMPLETED
            await on.cancel(busy.id)

    run(scene())


@pytest.mark.parametrize("format", ["flac", "mp3"])
def test_another_format_is_only_encoded(tmp_path: Path, format: str) -> None:
    async def scene() -> None:
        async with encoding(manager(tmp_path)) as on:
            first = await done(on, upload(tmp_path))
            other = await done(on, upload(tmp_path, format=format, stems=["other", "vocals"][::-1]))
            assert not other.cached  # stems that are named are another request
            again = await done(on, upload(tmp_path, format=format))
            assert again.cached
            assert {stem.format for stem in again.stems} == {format}
            assert [stem.peak for stem in again.stems] == [stem.peak for stem in first.stems]
            for stem in again.stems:
                content = Path(stem.path).read_bytes()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (stem.bytes, stem.sha256)
            if format == "flac":
                np.testing.assert_array_equal(
                    soundfile.read(again.stems[0].path)[0], soundfile.read(first.stems[0].path)[0]
                )

    run(scene())


def test_without_anyone_who_encodes_another_format_is_computed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on:
            await done(on, upload(tmp_path))
            assert not (await done(on, upload(tmp_path, format="flac"))).cached

    run(scene())


@pytest.mark.parametrize("difference", [{"overlap": 0.5}, {"precision": "fp32"}, {"seed": 1}, {"shifts": 1}])
def test_another_song_or_option_is_computed(tmp_path: Path, difference: dict[str, Any]) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on:
            await done(on, upload(tmp_path))
            assert not (await done(on, upload(tmp_path, **difference))).cached
            assert (await done(on, upload(tmp_path, **difference))).cached

    run(scene())


def test_another_revision_of_the_model_is_computed(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "1a.safetensors").write_bytes(b"weights")
    repo = define_bag(tmp_path / "repo", "ours", ["1a"])

    async def scene() -> None:
        async with manager(tmp_path, model_repo=repo) as on:
            assert not (await done(on, upload(tmp_path, model="ours"))).cached
            assert (await done(on, upload(tmp_path, model="ours"))).cached
            (repo / "1a.safetensors").write_bytes(b"better weights")
            assert not (await done(on, upload(tmp_path, model="ours"))).cached
            assert (await done(on, upload(tmp_path, model="ours"))).cached

    run(scene())


@pytest.mark.parametrize(
    "change", ["removed", "edited", "a link", "no manifest", "less manifest", "odd manifest", "deleted"]
)
def test_stems_that_are_not_there_any_more_are_computed_again(tmp_path: Path, change: str) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on:
            first = await done(on, upload(tmp_path))
            path = Path(first.stems[1].path)
            match change:
                case "removed":
                    path.unlink()
                case "edited":
                    path.write_bytes(bytes(path.stat().st_size))
                case "a link":
                    path.rename(tmp_path / "elsewhere")
                    path.symlink_to(tmp_path / "elsewhere")
                case "no manifest":
                    path.with_name("manifest.json").unlink()
                case "less manifest":
                    rewrite(path.with_name("manifest.json"), lambda manifest: manifest.pop("gain"))
                case "odd manifest":
                    rewrite(path.with_name("manifest.json"), lambda manifest: manifest.update(source=7))
                case "deleted":
                    await on.delete(first.id)
            again = await done(on, upload(tmp_path))
            assert not again.cached
            assert again.attempt == 1
            assert (await done(on, upload(tmp_path))).cached
            assert not list(Path(again.request.output_dir).glob(".demucs*"))

    run(scene())


def test_a_callers_stems_serve_an_upload_as_a_copy(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on:
            wanted = upload(tmp_path)
            own = await on.add_task(
                input_path=wanted.input_path, output_dir=tmp_path / "out", input_name="copy", model="demo"
            )
            own = await on.wait(own.id)
            again = await done(on, wanted)
            assert (own.cached, again.cached) == (False, True)
            assert inode(again) != inode(own)
            Path(own.stems[0].path).write_bytes(b"edited")
            assert hashlib.sha256(Path(again.stems[0].path).read_bytes()).hexdigest() == again.stems[0].sha256

    run(scene())


def test_a_callers_song_is_answered_too_but_not_by_a_hash_of_long_ago(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on:
            first = await done(on, upload(tmp_path))
            own = msgspec.structs.replace(upload(tmp_path), origin=Origin.PATH)
            again = await done(on, own)
            assert again.cached
            assert inode(again) != inode(first)

            # One that waited for a worker: whether its song is still what was hashed, nobody knows.
            Path(first.stems[0].path).rename(aside := tmp_path / "aside")
            Path(again.stems[0].path).unlink()
            queued = await on.submit(msgspec.structs.replace(upload(tmp_path), origin=Origin.PATH))
            aside.rename(first.stems[0].path)
            assert not (await on.wait(queued[0].id)).cached

    run(scene())


def test_fifty_who_ask_the_same_at_once_all_get_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, workers=2) as on:
            wanted = [upload(tmp_path) for _ in range(50)]
            tasks = [task for task, _ in await asyncio.gather(*(on.submit(each) for each in wanted))]
            finished = await asyncio.gather(*(on.wait(task.id) for task in tasks))
            assert {task.state for task in finished} == {TaskState.COMPLETED}
            assert {stem.sha256 for task in finished for stem in task.stems} == {finished[0].request.input_sha256}
            # Those that waited for a worker found the stems of the first when their turn came. A worker is free, and
            # takes the next, a moment before the stems of the last are at their place: two for each worker.
            assert sum(not task.cached for task in finished) <= 4
            late = await asyncio.gather(*(done(on, upload(tmp_path)) for _ in range(50)))
            assert all(task.cached for task in late)

    run(scene())


def test_the_same_file_id_is_the_same_task(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on:
            await done(on, upload(tmp_path))
            answers = await asyncio.gather(*(on.submit(upload(tmp_path, file_id="one")) for _ in range(5)))
            assert len({task.id for task, _ in answers}) == 1
            assert sum(is_new for _, is_new in answers) == 1
            with pytest.raises(TaskConflict):
                await on.submit(upload(tmp_path, file_id="one", priority="high"))

    run(scene())


class Stuck:
    """An assistant that never comes to an end."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def do(self, chore: object, kind: type) -> object:
        self.asked.set()
        return await asyncio.Event().wait()


def test_a_task_that_is_being_encoded_can_be_cancelled(tmp_path: Path) -> None:
    async def scene() -> None:
        stuck = Stuck()
        async with encoding(manager(tmp_path), stuck) as on:
            await done(on, upload(tmp_path))
            submitting = asyncio.create_task(on.submit(upload(tmp_path, format="flac")))
            await stuck.asked.wait()
            (running,) = on.list_tasks(TaskState.RUNNING).tasks
            assert running.worker_id == ANSWERER
            cancelled = await on.cancel(running.id)
            assert cancelled.state is TaskState.CANCELLED
            assert (await submitting)[0].state is TaskState.CANCELLED
            assert list(Path(running.request.output_dir).iterdir()) == []
            assert left_behind(tmp_path) == []

    run(scene())


def test_a_stop_returns_what_is_being_encoded_to_the_queue(tmp_path: Path) -> None:
    async def scene() -> None:
        stuck = Stuck()
        async with encoding(manager(tmp_path, shutdown_grace=0), stuck) as on:
            await done(on, upload(tmp_path))
            submitting = asyncio.create_task(on.submit(upload(tmp_path, format="flac")))
            await stuck.asked.wait()
            await on.shutdown()
            await asyncio.wait({submitting})
        async with manager(tmp_path) as on:
            task = await on.wait(on.list_tasks(limit=1).tasks[0].id)
            assert (task.attempt, task.cached, task.history) == (1, False, ())

    run(scene())


class Broken:
    """An assistant that cannot work."""

    async def do(self, chore: object, kind: type) -> object:
        raise AssistantFailed(detail="it does not start")


def test_where_nobody_can_encode_a_worker_computes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with encoding(manager(tmp_path), Broken()) as on, heard(on) as events:
            await done(on, upload(tmp_path))
            task = await done(on, upload(tmp_path, format="flac"))
            assert (task.cached, task.attempt, task.history) == (False, 1, ())
            assert kinds(events, task)[:3] == [
                (EventKind.QUEUED, None), (EventKind.STARTED, ANSWERER), (EventKind.QUEUED, None),
            ]  # fmt: skip

    run(scene())
