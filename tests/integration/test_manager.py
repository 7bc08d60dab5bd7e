"""The manager over the real queue and the real pool, with scripted workers."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from demucs_server_worker import publication, settlement
from demucs_server_worker.errors import (
    DataFolderInUse,
    IllegalTransition,
    InvalidOption,
    QueueFull,
    ShuttingDown,
    TaskCancelled,
    TaskConflict,
    TaskFailed,
    TaskNotFound,
)
from demucs_server_worker.events import EventKind
from demucs_server_worker.task import Task, TaskState
from tests.managers import DEADLINE_SECONDS, add, heard, left_behind, manager, run, until
from tests.pool_conformance import eventually


def test_a_task_goes_from_the_queue_to_published_stems(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m, heard(m) as events:
            task = await add(m, tmp_path, "succeed", project_name="Album", file_id="f1")
            assert (task.state, task.attempt) == (TaskState.QUEUED, 1)
            done = await m.wait(task.id)
        assert done.state is TaskState.COMPLETED
        assert (done.progress, done.duration_seconds) == (1.0, 3.0)
        assert [e.kind for e in events if e.task_id] == [EventKind.QUEUED, EventKind.STARTED, EventKind.COMPLETED]
        assert [e.seq for e in events] == sorted(e.seq for e in events)
        assert Path(done.stems[0].path) == tmp_path / "out" / "vocals.wav"
        assert Path(done.stems[0].path).read_bytes() == b"the whole stem"

    run(scene())
    assert left_behind(tmp_path) == []


def test_high_before_normal_before_low_and_first_in_first_out_within(tmp_path: Path) -> None:
    async def scene() -> list[str]:
        async with manager(tmp_path) as m, heard(m) as events:
            await add(m, tmp_path, "busy")
            await until(m, EventKind.STARTED)
            names = [("low", "print l1"), ("normal", "print n1"), ("high", "print h1"), ("high", "print h2"),
                     ("normal", "print n2"), ("low", "print l2")]  # fmt: skip
            tasks = [await add(m, tmp_path, name, priority=priority) for priority, name in names]
            assert [m.queue_position(task.id) for task in tasks] == [5, 3, 1, 2, 4, 6]
            (tmp_path / "out" / "go").touch()
            await asyncio.gather(*(m.wait(task.id) for task in tasks))
        return [e.task.request.input_name for e in events if e.kind is EventKind.STARTED and e.task]

    assert run(scene()) == ["busy", *(f"print {name}" for name in ("h1", "h2", "n1", "n2", "l1", "l2"))]


def test_the_same_file_id_fifty_times_at_once_is_one_task(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m:
            tasks = await asyncio.gather(*(add(m, tmp_path, "succeed", file_id="one") for _ in range(50)))
            assert len({task.id for task in tasks}) == 1
            await m.wait(tasks[0].id)
            assert (await add(m, tmp_path, "succeed", file_id="one")).state is TaskState.COMPLETED
            with pytest.raises(TaskConflict):
                await add(m, tmp_path, "succeed", file_id="one", format="flac")
            assert m.get_status()["totals"]["completed"] == 1

    run(scene())


def test_a_task_that_crashes_its_worker_three_times_is_failed_and_the_pool_lives_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m, heard(m) as events:
            task = await add(m, tmp_path, "exit 7")
            with pytest.raises(TaskFailed) as failed:
                await m.wait(task.id)
            assert failed.value.error.code == "worker_crashed"
            after = m.get_task(task.id)
            assert [(a.number, a.error and a.error.code) for a in after.history] == [
                (1, "worker_crashed"), (2, "worker_crashed"), (3, "worker_crashed"),
            ]  # fmt: skip
            assert all(a.worker_id == "worker-1" and a.ended_at >= a.started_at for a in after.history)
            assert (await m.wait((await add(m, tmp_path, "succeed")).id)).state is TaskState.COMPLETED
        kinds = [e.kind for e in events if e.task_id == task.id]
        assert kinds.count(EventKind.STARTED) == 3
        assert kinds.count(EventKind.RETRYING) == 2
        assert kinds[-1] is EventKind.FAILED

    run(scene())
    assert left_behind(tmp_path) == []


def test_what_another_attempt_cannot_help_is_failed_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m:
            task = await add(m, tmp_path, "raise unreadable")
            with pytest.raises(TaskFailed) as failed:
                await m.wait(task.id)
            assert failed.value.error.code == "input_unreadable"
            assert len(m.get_task(task.id).history) == 1

    run(scene())


def test_an_attempt_past_its_time_is_stopped_and_counts(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, task_timeout=150, max_attempts=2) as m:
            task = await add(m, tmp_path, "wait")
            with pytest.raises(TaskFailed) as failed:
                await m.wait(task.id)
            assert failed.value.error.code == "timed_out"
            assert len(m.get_task(task.id).history) == 2

    run(scene())
    assert left_behind(tmp_path) == []


def test_cancelling_a_queued_task_keeps_it_from_starting(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m, heard(m) as events:
            first = await add(m, tmp_path, "busy")
            await until(m, EventKind.STARTED)
            second = await add(m, tmp_path, "succeed")
            assert (await m.cancel(second.id)).state is TaskState.CANCELLED
            (tmp_path / "out" / "go").touch()
            await m.wait(first.id)
            with pytest.raises(TaskCancelled):
                await m.wait(second.id)
        assert second.id not in [e.task_id for e in events if e.kind is EventKind.STARTED]

    run(scene())


@pytest.mark.parametrize("script", ["wait", "finish-when-cancelled", "fail-when-cancelled"])
def test_cancelling_a_running_task_frees_its_worker_and_publishes_nothing(tmp_path: Path, script: str) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m, heard(m) as events:
            task = await add(m, tmp_path, script)
            waiting = asyncio.create_task(m.wait(task.id))
            await until(m, EventKind.STARTED)
            assert (await m.cancel(task.id)).state is TaskState.CANCELLED
            with pytest.raises(TaskCancelled):
                await waiting
            with pytest.raises(IllegalTransition):
                await m.cancel(task.id)
            assert not (tmp_path / "out" / "vocals.wav").exists()
            await m.wait((await add(m, tmp_path, "succeed")).id)
        assert [e.kind for e in events if e.task_id == task.id][-1] is EventKind.CANCELLED

    run(scene())
    assert left_behind(tmp_path) == []


def test_a_task_that_is_cancelled_in_the_moment_in_which_it_begins_frees_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m:
            assert m._dispatcher is not None
            begin, on_thread = m._dispatcher._begin, m._on_database_thread
            cancelling: list[asyncio.Task[Task]] = []

            def begin_beside_a_cancel(task: Task, worker_id: str) -> None:
                # The database has carried out the claim and the cancel before the loop hears of either.
                cancelled = m._database_thread.submit(m._queue.cancel, task.id, m._clock()).result()

                async def at_once(*_: object) -> Task:
                    monkeypatch.setattr(m, "_on_database_thread", on_thread)
                    return cancelled

                monkeypatch.setattr(m, "_on_database_thread", at_once)
                monkeypatch.setattr(m._dispatcher, "_begin", begin)
                cancelling.append(asyncio.create_task(m.cancel(task.id)))
                begin(task, worker_id)

            monkeypatch.setattr(m._dispatcher, "_begin", begin_beside_a_cancel)
            task = await add(m, tmp_path, "wait")
            with pytest.raises(TaskCancelled):
                await m.wait(task.id)
            assert (await cancelling[0]).state is TaskState.CANCELLED
            await m.wait((await add(m, tmp_path, "succeed")).id)

    run(scene())


def test_cancel_and_completion_have_one_winner(tmp_path: Path) -> None:
    """Twenty tasks that end by themselves, each cancelled at about that moment: both sides are told the same."""

    async def scene() -> None:
        async with manager(tmp_path, workers=2) as m:
            for _ in range(20):
                task = await add(m, tmp_path, "succeed")
                await until(m, EventKind.STARTED, task)
                cancelled = False
                try:
                    await m.cancel(task.id)
                    cancelled = True
                except IllegalTransition:
                    pass
                try:
                    await m.wait(task.id)
                    completed = True
                except TaskCancelled:
                    completed = False
                assert cancelled != completed
                assert (m.get_task(task.id).state is TaskState.COMPLETED) == completed

    run(scene())
    assert left_behind(tmp_path) == []


def test_a_failed_task_can_be_tried_again_afresh(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, max_attempts=1) as m:
            task = await add(m, tmp_path, "exit 7")
            with pytest.raises(TaskFailed):
                await m.wait(task.id)
            again = await m.retry(task.id)
            assert (again.state, again.attempt, len(again.history)) == (TaskState.QUEUED, 1, 1)
            with pytest.raises(TaskFailed):
                await m.wait(task.id)
            done = await m.wait((await add(m, tmp_path, "succeed")).id)
            with pytest.raises(IllegalTransition):
                await m.retry(done.id)

    run(scene())


def test_shutdown_lets_a_running_task_finish_within_the_grace_period(tmp_path: Path) -> None:
    async def scene() -> None:
        m = manager(tmp_path, shutdown_grace=30)
        await m.start()
        task = await add(m, tmp_path, "busy")
        waiting = await add(m, tmp_path, "succeed")
        await until(m, EventKind.STARTED)
        stopping = asyncio.create_task(m.shutdown())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await add(m, tmp_path, "succeed")
        (tmp_path / "out" / "go").touch()
        await stopping
        async with manager(tmp_path) as again:
            assert again.get_task(task.id).state is TaskState.COMPLETED
            assert (await again.wait(waiting.id)).state is TaskState.COMPLETED

    run(scene())


def test_what_the_grace_period_does_not_suffice_for_is_queued_again_and_no_attempt_counts(tmp_path: Path) -> None:
    async def scene() -> None:
        m = manager(tmp_path, shutdown_grace=0.05)
        await m.start()
        task = await add(m, tmp_path, "wait")
        waiter = asyncio.create_task(m.wait(task.id))
        await until(m, EventKind.STARTED)
        await m.shutdown()
        with pytest.raises(ShuttingDown):
            await waiter
        assert left_behind(tmp_path) == []
        async with manager(tmp_path, shutdown_grace=0) as again:
            event = await until(again, EventKind.STARTED)
            assert event.task is not None
            assert (event.task_id, event.task.attempt, event.task.claim) == (task.id, 1, 2)
            assert event.task.history == ()

    run(scene())


def test_a_second_shutdown_ends_the_grace_period_of_the_first(tmp_path: Path) -> None:
    async def scene() -> None:
        m = manager(tmp_path, shutdown_grace=3600)
        await m.start()
        task = await add(m, tmp_path, "wait")
        await until(m, EventKind.STARTED)
        first = asyncio.create_task(m.shutdown())
        await asyncio.sleep(0)
        await m.shutdown(0)
        await first
        async with manager(tmp_path, shutdown_grace=0) as again:
            assert again.get_task(task.id).attempt == 1

    run(scene())


def test_one_manager_a_data_folder(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path):
            with pytest.raises(DataFolderInUse, match="DEMUCS_WORKER_DATA_DIR"):
                await manager(tmp_path).start()
        async with manager(tmp_path):
            pass

    run(scene())


def test_a_full_queue_refuses_and_says_so(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, max_queued=2, shutdown_grace=0) as m:
            await add(m, tmp_path, "wait")
            await until(m, EventKind.STARTED)
            await add(m, tmp_path, "succeed")
            await add(m, tmp_path, "succeed")
            with pytest.raises(QueueFull):
                await add(m, tmp_path, "succeed")

    run(scene())


def test_a_bad_request_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m:
            for fields in ({"format": "aiff"}, {"priority": "urgent"}, {"overlap": 1}, {"colour": "red"}):
                with pytest.raises(InvalidOption):
                    await add(m, tmp_path, "succeed", **fields)
            with pytest.raises(InvalidOption, match="input_path"):
                await m.add_task(output_dir=tmp_path)
            with pytest.raises(TaskNotFound):
                await m.wait("no-such-task")
            assert m.list_tasks().tasks == ()

    run(scene())


def test_who_waits_after_the_last_event_and_before_the_tidying_up_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidying, go_on = threading.Event(), threading.Event()

    def slow_discard(staging: Path) -> None:
        tidying.set()
        go_on.wait(DEADLINE_SECONDS)

    # Only what comes after the event: publishing tidies up by the same function.
    verbs = SimpleNamespace(prepare=publication.prepare, publish=publication.publish, discard=slow_discard)
    monkeypatch.setattr(settlement, "publication", verbs)

    async def scene() -> None:
        async with manager(tmp_path) as m:
            for script, state in (("succeed", TaskState.COMPLETED), ("raise unreadable", TaskState.FAILED)):
                tidying.clear()
                go_on.clear()
                task = await add(m, tmp_path, script)
                async for _ in m.events(task.id):
                    pass
                await asyncio.to_thread(tidying.wait, DEADLINE_SECONDS)
                assert [event.task and event.task.state async for event in m.events(task.id)] == [state]
                go_on.set()

    run(scene())


def test_a_listener_hears_from_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m:
            everything = m.events()
            task = await add(m, tmp_path, "succeed")
            of_the_task = m.events(task.id)
            await m.wait(task.id)
            heard = [event.kind async for event in of_the_task]
            assert (heard[0], heard[-1]) == (EventKind.STARTED, EventKind.COMPLETED)
            kinds = set()
            async for event in everything:
                kinds.add(event.kind)
                if event.kind is EventKind.COMPLETED:
                    break
            assert {EventKind.QUEUED, EventKind.WORKER_STARTED, EventKind.STARTED} <= kinds
            with pytest.raises(TaskNotFound):
                m.events("no-such-task")
        assert [event async for event in m.events()] == []  # nothing happens any more, and nobody waits for it

    run(scene())


def test_a_listener_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as m:
            asleep = m.events()
            first = asyncio.ensure_future(anext(asleep))
            for _ in range(30):
                await m.wait((await add(m, tmp_path, "succeed")).id)
            assert (await first).seq >= 1
            heard = [(await anext(asleep)).kind for _ in range(60)]
            assert heard.count(EventKind.COMPLETED) >= 10

    run(scene())


def test_the_status_has_its_shape_and_is_json(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, workers=2, shutdown_grace=0) as m:
            await add(m, tmp_path, "wait")
            await until(m, EventKind.STARTED)
            await add(m, tmp_path, "wait")
            await until(m, EventKind.STARTED)
            await add(m, tmp_path, "succeed", priority="low")
            await eventually(lambda: all(worker["rss_bytes"] for worker in m.get_status()["workers"]))
            status = json.loads(json.dumps(m.get_status()))
        assert status["accepting"] is True
        assert status["queue"] == {"queued": 1, "running": 2, "by_priority": {"high": 0, "normal": 0, "low": 1}}
        assert [w["state"] for w in status["workers"]] == ["busy", "busy"]
        assert {w["task_id"] for w in status["workers"]} != {None}
        assert all(w["rss_bytes"] > 0 for w in status["workers"])
        assert status["machine"]["memory_total_bytes"] > status["machine"]["memory_available_bytes"] > 0
        assert status["health"] == {"ok": True, "problems": []}

    run(scene())


def test_progress_is_told_live_and_never_falls(tmp_path: Path) -> None:
    async def scene() -> list[float]:
        async with manager(tmp_path) as m:
            task = await add(m, tmp_path, "backwards")
            return [e.task.progress async for e in m.events(task.id) if e.task]

    figures = run(scene())
    assert figures == sorted(figures)
    assert figures[-1] == 1.0
