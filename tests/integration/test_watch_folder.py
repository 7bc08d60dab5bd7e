"""The watched folder, over a real manager with scripted workers and real files."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from demucs_server_worker.errors import UnsupportedFormat
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.task import Task, TaskState
from demucs_server_worker.watch import watcher as watcher_module
from demucs_server_worker.watch.folder import is_being_written, look
from demucs_server_worker.watch.plan import Plan
from demucs_server_worker.watch.watcher import Watcher, watching
from tests.managers import manager, run

IN = "in"
QUICK = {"settle_seconds": 0.0, "untold_settle_seconds": 0.0}


async def measure(path: Path, name: str) -> float | None:
    """Takes every file that does not say that it is words."""
    if path.read_bytes() == b"words":
        raise UnsupportedFormat(name=name, detail="its content is none of these formats")
    return 3.0


class Scene:
    """A watched folder below `folder`, looked into when told to, with no time for settling."""

    def __init__(self, folder: Path, manager: WorkerManager, **values: Any) -> None:
        self.folder = folder / IN
        self.manager = manager
        plan = Plan.of(manager.settings)
        assert plan is not None
        self.watcher = Watcher(plan, manager, measure, **{**QUICK, **values})

    def put(self, name: str, content: bytes = b"a song") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    async def look(self) -> list[str]:
        """Look into the folder once; gives all tasks there are then, by their songs' paths below the folder."""
        await self.watcher.look_once()
        return sorted(os.path.relpath(task.request.input_path, self.folder) for task in self.tasks())

    def tasks(self) -> list[Task]:
        return list(self.manager.list_tasks().tasks)


@asynccontextmanager
async def scene(folder: Path, *, watcher: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Scene]:
    (folder / IN).mkdir(exist_ok=True)
    values = {"watch": folder / IN, "watch_output": folder / "out", **settings}
    async with manager(folder, shutdown_grace=0, **values) as made:
        yield Scene(folder, made, **(watcher or {}))


def test_songs_that_lie_there_and_songs_that_come_become_tasks_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            watched.put("first.mp3")
            watched.put("Artist/Album/second.WAV")
            for name in ("notes.txt", ".hidden.mp3", ".folder/third.mp3", "cover.jpg", "half.mp3.part"):
                watched.put(name)
            assert await watched.look() == ["Artist/Album/second.WAV", "first.mp3"]
            watched.put("later.flac")
            assert await watched.look() == ["Artist/Album/second.WAV", "first.mp3", "later.flac"]
            assert await watched.look() == ["Artist/Album/second.WAV", "first.mp3", "later.flac"]

    run(play())


def test_what_was_done_is_remembered_across_restarts_and_a_changed_song_is_new(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            watched.put("song.mp3")
            await watched.look()
        async with scene(tmp_path) as watched:
            (old,) = watched.tasks()
            await watched.look()
            assert [task.id for task in watched.tasks()] == [old.id]
            watched.put("song.mp3", b"another song")
            assert await watched.look() == ["song.mp3", "song.mp3"]

    run(play())


def test_a_copy_under_way_waits_until_nobody_writes(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path, watcher={"untold_settle_seconds": 3600.0}) as watched:
            path = watched.folder / "song.mp3"
            with path.open("wb") as copying:
                copying.write(b"half a so")
                copying.flush()
                assert is_being_written(str(path)) is True
                assert await watched.look() == []
            assert await watched.look() == ["song.mp3"]

    run(play())


def test_a_file_must_be_as_it_is_for_a_while_longer_where_nobody_can_tell_who_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    patience = {"settle_seconds": 3.0, "untold_settle_seconds": 15.0, "clock": lambda: now}
    monkeypatch.setattr(watcher_module, "is_being_written", lambda path: None if "net" in path else False)

    async def play() -> None:
        nonlocal now
        async with scene(tmp_path, watcher=patience) as watched:
            watched.put("local.mp3")
            watched.put("net.mp3")
            assert await watched.look() == []
            now += 2.9
            assert await watched.look() == []
            now += 0.2
            assert await watched.look() == ["local.mp3"]
            now += 11.0
            watched.put("net.mp3", b"it grew")
            assert await watched.look() == ["local.mp3"]
            now += 14.9
            assert await watched.look() == ["local.mp3"]
            now += 0.2
            assert await watched.look() == ["local.mp3", "net.mp3"]

    run(play())


def test_a_folder_moved_in_whole_is_taken(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            (tmp_path / "Album").mkdir()
            (tmp_path / "Album" / "song.mp3").write_bytes(b"a song")
            shutil.move(tmp_path / "Album", watched.folder / "Album")
            assert await watched.look() == ["Album/song.mp3"]

    run(play())


def test_a_file_that_is_no_song_is_told_once_and_tried_again_only_when_it_changes(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            watched.put("bad.mp3", b"words")
            with structlog.testing.capture_logs() as logs:
                for _ in range(3):
                    assert await watched.look() == []
                told = [log for log in logs if log["event"] == "not taken"]
                assert [(log["file"], log["code"]) for log in told] == [("bad.mp3", "unsupported_format")]
                watched.put("bad.mp3", b"a song at last")
                assert await watched.look() == ["bad.mp3"]

    run(play())


def test_a_name_that_is_not_utf8_is_told_and_holds_up_no_other(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            Path(os.fsdecode(os.fsencode(watched.folder) + b"/a-caf\xe9.mp3")).write_bytes(b"a song")
            watched.put("song.mp3")
            assert await watched.look() == ["song.mp3"]

    run(play())


def test_a_song_on_a_bad_spot_of_the_disk_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hash_of(path: Path) -> str:
        if path.name == "bad.mp3":
            raise OSError(errno.EIO, "Input/output error")
        return "0" * 64

    async def play() -> None:
        monkeypatch.setattr(watcher_module, "sha256_of", hash_of)
        async with scene(tmp_path) as watched:
            watched.put("bad.mp3")
            watched.put("good.mp3")
            assert await watched.look() == ["bad.mp3", "good.mp3"]

    run(play())


def test_a_full_queue_is_waited_for_and_nothing_is_forgotten(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path, max_queued=1) as watched:
            assert watched.manager._dispatcher is not None
            await watched.manager._dispatcher.stop()
            for name in ("a.mp3", "b.mp3", "c.mp3"):
                watched.put(name)
            waiting = asyncio.create_task(watched.watcher.run())
            watched.watcher._look_seconds = 0.01
            for count in (1, 2, 3):
                while len(watched.tasks()) < count:
                    await asyncio.sleep(0.01)
                (queued,) = watched.manager.list_tasks(TaskState.QUEUED).tasks
                await watched.manager.cancel(queued.id)
            waiting.cancel()
            assert len({task.request.input_path for task in watched.tasks()}) == 3

    run(play())


def test_an_output_folder_inside_the_watched_one_does_not_feed_itself(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path, watch_output=tmp_path / IN / "stems") as watched:
            watched.put("song.mp3")
            watched.put("stems/song/vocals.wav")
            # Stems that were moved in from elsewhere, too.
            watched.put("old/manifest.json", json.dumps({"manifest": 1, "model": "demo", "stems": []}).encode())
            watched.put("old/vocals.wav")
            assert await watched.look() == ["song.mp3"]

    run(play())


def test_links_are_not_followed(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            (tmp_path / "elsewhere").mkdir()
            (tmp_path / "elsewhere" / "secret.mp3").write_bytes(b"a song")
            (watched.folder / "file.mp3").symlink_to(tmp_path / "elsewhere" / "secret.mp3")
            (watched.folder / "folder").symlink_to(tmp_path / "elsewhere")
            assert await watched.look() == []

    run(play())


def test_songs_with_the_same_name_go_to_folders_of_their_own(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            watched.put("song.mp3")
            await watched.look()
            watched.put("song.wav")
            await watched.look()
            assert sorted(task.request.input_name for task in watched.tasks()) == ["song (wav).wav", "song.mp3"]

    run(play())


def test_a_folder_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as watched:
            watched.watcher._look_seconds = 0.01
            shutil.rmtree(watched.folder)
            plan = Plan(watched.folder, tmp_path / "out", watched.watcher._plan.options)
            with structlog.testing.capture_logs() as logs:
                async with watching(plan, watched.manager, measure):
                    while not [log for log in logs if log["event"] == "waiting"]:
                        await asyncio.sleep(0.01)
            with structlog.testing.capture_logs() as logs:
                running = asyncio.create_task(watched.watcher.run())
                while not [log for log in logs if log["event"] == "waiting"]:
                    await asyncio.sleep(0.01)
                watched.put("song.mp3")
                while not watched.tasks():
                    await asyncio.sleep(0.01)
                running.cancel()
            assert len([log for log in logs if log["event"] == "waiting"]) == 1

    run(play())


def test_ten_thousand_songs_are_seen(tmp_path: Path) -> None:
    for number in range(10_000):
        folder = tmp_path / IN / str(number % 100)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp3").touch()
    assert len(look(tmp_path / IN, tmp_path / "out")) == 10_000
