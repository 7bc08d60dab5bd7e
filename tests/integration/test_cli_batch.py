"""A batch of the command line over a real manager and scripted workers: what it tells, and when it gives up."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from demucs_server_worker import manager
from demucs_server_worker.cli import batch
from demucs_server_worker.cli.batch import Entry, Order, Result, Standing, separate_songs
from demucs_server_worker.cli.plain_report import QuietReport
from demucs_server_worker.cli.songs import Song
from demucs_server_worker.events import EventKind
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.pool.local import LocalPool, PoolConfig
from demucs_server_worker.settings import load_settings
from demucs_server_worker.task import Priority
from tests.workers import scripted


class Told(QuietReport):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.kinds: dict[str, list[EventKind]] = {}
        self.result: Result | None = None

    def begin(self, entries: Sequence[Entry]) -> None:
        self.kinds = {entry.song.input_name: [] for entry in entries}

    def changed(self, entry: Entry, kind: EventKind) -> None:
        self.kinds[entry.song.input_name].append(kind)

    def end(self, result: Result) -> None:
        self.result = result


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes batches run on scripted workers that start as told."""

    def use(start: str = "well", size: int = 1) -> None:
        config = PoolConfig(size=size, first_delay_seconds=0.01, command=scripted(start))
        monkeypatch.setattr(manager, "local_pool", lambda settings, gpus, on_event: LocalPool(config, on_event))

    return use


def order(folder: Path, *scripts: str, **changes: Any) -> Order:
    """Songs whose names are scripts for the workers."""
    path = folder / "song.wav"
    path.touch()
    songs = [Song(path, f"{number}.wav", folder / "out", script) for number, script in enumerate(scripts)]
    settings = load_settings(retry_delay=0.0, max_attempts=2)
    return Order(songs=songs, options=SeparationOptions(model="demo"), settings=settings, **changes)


def test_each_song_is_told_from_its_start_to_its_end(tmp_path: Path, workers: Any) -> None:
    workers()
    told = Told()
    result = separate_songs(order(tmp_path, "succeed", "raise unreadable"), told)
    assert result is told.result
    assert [entry.standing for entry in result.entries] == [Standing.COMPLETED, Standing.FAILED]
    assert told.kinds["succeed"][0] is EventKind.STARTED
    assert told.kinds["succeed"][-1] is EventKind.COMPLETED
    assert told.kinds["raise unreadable"][-1] is EventKind.FAILED
    good, bad = result.entries
    assert good.folder == tmp_path / "out" and good.audio_seconds == 3.0 and good.seconds is not None
    assert bad.error is not None and bad.error.code == "input_unreadable"
    assert (result.exit_code, result.interrupted) == (1, False)


def test_a_worker_that_dies_costs_an_attempt_and_the_others_are_done(tmp_path: Path, workers: Any) -> None:
    workers()
    told = Told()
    result = separate_songs(order(tmp_path, "exit 3", "succeed"), told)
    assert [entry.standing for entry in result.entries] == [Standing.FAILED, Standing.COMPLETED]
    kinds = [kind for kind in told.kinds["exit 3"] if kind is not EventKind.PROGRESS]
    assert kinds == [EventKind.STARTED, EventKind.RETRYING, EventKind.STARTED, EventKind.FAILED]
    assert result.entries[0].error is not None and result.entries[0].error.code == "worker_crashed"


@pytest.mark.parametrize("start", ["broken", "dead"])
def test_where_no_worker_starts_songs_fail_with_the_reason_instead_of_waiting(
    tmp_path: Path, workers: Any, start: str
) -> None:
    workers(start, size=2)
    result = separate_songs(order(tmp_path, "succeed", "succeed"), Told())
    assert [entry.standing for entry in result.entries] == [Standing.FAILED, Standing.FAILED]
    error = result.entries[0].error
    assert error is not None
    assert error.message.startswith("No worker starts: ") and "no module named torch" in error.message


def test_priority_and_project_reach_the_task(tmp_path: Path, workers: Any) -> None:
    workers()
    result = separate_songs(order(tmp_path, "succeed", priority=Priority.HIGH, project_name="My Album"), Told())
    (entry,) = result.entries
    assert entry.task is not None
    request = entry.task.request
    assert (request.priority, request.project_name, request.options.model) == (Priority.HIGH, "My Album", "demo")


def test_with_nothing_but_missing_files_no_worker_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(batch, "WorkerManager")
    missing = order(tmp_path, "succeed")
    (tmp_path / "song.wav").unlink()
    (entry,) = separate_songs(missing, Told()).entries
    assert entry.error is not None and entry.error.code == "input_not_found"


def test_what_another_signal_handler_was_is_put_back(tmp_path: Path, workers: Any) -> None:
    workers()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    separate_songs(order(tmp_path, "succeed"), Told())
    assert {number: signal.getsignal(number) for number in before} == before
