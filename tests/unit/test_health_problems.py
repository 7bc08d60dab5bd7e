"""What counts as a problem, when it is over, and when it is told."""

from __future__ import annotations

from typing import Any

import pytest

from demucs_server_worker.health.problems import NO_WORKER_SECONDS, OVER_SECONDS, Announcer, Facts, Judge
from demucs_server_worker.health.readings import MachineReading
from demucs_server_worker.pool.base import WorkerInfo, WorkerState

GB = 10**9


def worker(state: WorkerState = WorkerState.IDLE, **fields: Any) -> WorkerInfo:
    defaults: dict[str, Any] = {
        "id": "worker-1", "pid": 7, "device": "cpu", "task_id": None, "progress": 0.0, "tasks_done": 0, "restarts": 0,
        "uptime_seconds": 1.0,
    }  # fmt: skip
    return WorkerInfo(state=state, **{**defaults, **fields})


def facts(now: float = 0.0, workers: tuple[WorkerInfo, ...] = (worker(),), **fields: Any) -> Facts:
    of_machine = {name: fields.pop(name) for name in list(fields) if name in MachineReading.__dataclass_fields__}
    return Facts(now=now, workers=workers, machine=MachineReading(**of_machine), **fields)


def test_a_sound_machine_has_no_problems() -> None:
    sound = facts(
        memory_total_bytes=8 * GB, memory_available_bytes=4 * GB, disk_free_bytes=50 * GB, open_files=20,
        open_files_limit=1024, folders_free_bytes={"/out": 9 * GB}, queued=3,
    )  # fmt: skip
    assert Judge()(sound) == {}
    assert Judge()(facts()) == {}  # nothing could be read: that alone is no problem


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        # (the figure, whether it is a problem then): down to the limit, back a little, and well back
        ("memory_available_bytes", [(6 * GB, False), (4 * GB, True), (7 * GB, True), (9 * GB, False), (7 * GB, False)]),
        ("disk_free_bytes", [(2 * GB, False), (GB // 2, True), (int(1.2 * GB), True), (2 * GB, False)]),
        ("open_files", [(80, False), (90, True), (85, True), (79, False), (85, False)]),
        ("queued", [(80, False), (90, True), (85, True), (80, False)]),
    ],
)
def test_a_figure_must_go_well_back_before_its_problem_is_over(name: str, figures: list[tuple[int, bool]]) -> None:
    judge = Judge()
    sound = {
        "memory_total_bytes": 100 * GB, "memory_available_bytes": 50 * GB, "disk_free_bytes": 9 * GB,
        "open_files": 9, "open_files_limit": 100, "queued": 0, "max_queued": 100,
    }  # fmt: skip
    assert [bool(judge(facts(**{**sound, name: figure}))) for figure, _ in figures] == [bad for _, bad in figures]


def test_problems_are_sentences_with_their_figures() -> None:
    found = Judge()(
        facts(
            workers=(worker(WorkerState.DEAD, problem="no module named torch"),),
            memory_total_bytes=8 * GB, memory_available_bytes=GB // 5, disk_free_bytes=GB // 20,
            folders_free_bytes={"/music": 0}, open_files=95, open_files_limit=100, queued=99, max_queued=100,
            reported={"waiting": "Task a waits for memory."},
        )
    )  # fmt: skip
    assert list(found.values()) == [
        "worker-1 does not start: no module named torch",
        "Task a waits for memory.",
        "The machine is short of memory: 200 MB of 8.0 GB are left. Lower MAX_WORKERS, or end other programs.",
        "The disk of the data folder is nearly full: 50 MB are left.",
        "The disk of /music is nearly full: 0 MB are left.",
        "95 of the 100 files that this process may open are open. Raise `ulimit -n`.",
        "The queue is nearly full: 99 tasks wait, of the 100 that DEMUCS_WORKER_MAX_QUEUED allows.",
    ]


def test_that_no_worker_is_ready_is_a_problem_only_while_tasks_wait_and_not_at_once() -> None:
    judge = Judge()
    starting = (worker(WorkerState.STARTING),)
    assert judge(facts(0, starting, queued=2)) == {}
    assert judge(facts(NO_WORKER_SECONDS - 1, starting, queued=2)) == {}
    assert list(judge(facts(NO_WORKER_SECONDS, starting, queued=2)).values()) == [
        "No worker is ready, and 2 tasks wait."
    ]
    assert judge(facts(NO_WORKER_SECONDS + 1, (worker(WorkerState.BUSY),), queued=2)) == {}
    assert judge(facts(NO_WORKER_SECONDS + 2, starting, queued=2)) == {}
    assert judge(facts(NO_WORKER_SECONDS * 3, starting, queued=0)) == {}


def test_a_new_problem_is_told_at_once_and_once() -> None:
    announcer = Announcer()
    assert announcer.has_changed({}, 0) is False
    assert announcer.has_changed({"memory": "1 GB left"}, 1) is True
    assert announcer.has_changed({"memory": "0.9 GB left"}, 2) is False
    assert announcer.has_changed({"memory": "0.9 GB left", "queue": "full"}, 3) is True


def test_the_end_of_a_problem_is_told_when_it_has_stayed_away() -> None:
    announcer = Announcer()
    announcer.has_changed({"memory": "…"}, 0)
    assert announcer.has_changed({}, 1) is False
    assert announcer.has_changed({}, 1 + OVER_SECONDS / 2) is False
    assert announcer.has_changed({}, 1 + OVER_SECONDS) is True
    assert announcer.has_changed({}, 99) is False


def test_a_problem_that_comes_and_goes_is_told_once() -> None:
    announcer = Announcer()
    told = [announcer.has_changed({"waiting": "…"} if second % 6 < 3 else {}, second) for second in range(600)]
    assert told == [True] + [False] * 599
