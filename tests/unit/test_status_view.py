"""What `status` says, in words and on the screen, and how ids are shortened."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from demucs_server_worker.cli.exits import UsageError
from demucs_server_worker.cli.remote import short_ids, whole_ids
from demucs_server_worker.cli.status_screen import Watcher
from demucs_server_worker.cli.status_view import Snapshot, plain, screen
from demucs_server_worker.errors import ServerUnreachable, TaskNotFound, Unauthorized
from demucs_server_worker.wire.status import StatusBody
from demucs_server_worker.wire.task import TaskBody
from tests.client_flows import task

EVIL = "so\x1b[2Jng\u202e.wav"


def worker(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"worker-{number}", "pid": number, "state": "idle", "device": "cpu", "taskId": None, "progress": 0.0,
        "tasksDone": 0, "restarts": 0, "rssBytes": 400_000_000, "cpuPercent": 1.0, "uptimeSeconds": 1.0, **changes,
    }  # fmt: skip


def status(*workers: dict[str, Any], problems: tuple[str, ...] = (), **changes: Any) -> StatusBody:
    return StatusBody.model_validate({
        "version": "1.2.3", "uptimeSeconds": 3_723.0, "accepting": True,
        "queue": {"queued": 7, "running": 1, "byPriority": {"high": 1, "normal": 2, "low": 4}},
        "totals": {"completed": 5, "failed": 2, "cancelled": 3, "retried": 1}, "workers": workers,
        "machine": {"cpuPercent": 97.0, "memoryTotalBytes": 8 * 10**9, "memoryAvailableBytes": 2 * 10**9,
                    "diskFreeBytes": None, "gpus": []},
        "health": {"ok": not problems, "problems": problems}, **changes,
    })  # fmt: skip


def running(**changes: Any) -> TaskBody:
    return TaskBody.model_validate(
        task("running", inputName=EVIL, stage="separating", progress=0.42, etaSeconds=65.0, **changes)
    )


def drawn(snapshot: Snapshot, width: int = 110, height: int = 40) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False, color_system=None)
    console.print(screen(snapshot, width, height))
    return out.getvalue().splitlines()


BUSY = worker(1, state="busy", taskId="a" * 32, progress=0.4, restarts=2, cpuPercent=190.0)


def test_in_words_everything_is_said_and_nothing_acts_on_a_terminal() -> None:
    text = plain("http://x", status(BUSY, worker(2)), [running()])
    assert text.splitlines() == [
        "demucs-server-worker 1.2.3 at http://x, up 1:02:03",
        "health    all well",
        "queue     7 waiting (1 high, 2 normal, 4 low), 1 at work",
        "so far    5 completed, 2 failed, 3 cancelled, 1 tried again",
        "machine   cpu 97%, memory 2.0 GB of 8.0 GB free, disk – free",
        "worker-1  busy separating 42%, 1:05 left, cpu 190%, 400.0 MB, 0 done, 2 restarts: so\\x1b[2Jng\\u202e.wav",
        "worker-2  idle, cpu 1%, 400.0 MB, 0 done",
    ]
    assert "problem   the disk is full" in plain("http://x", status(problems=("the disk is full",)), [])


def test_the_screen_shows_workers_queue_machine_and_what_comes_next() -> None:
    waiting = [TaskBody.model_validate(task(inputName=f"next {n}.wav", priority="high")) for n in (1, 2)]
    text = "\n".join(drawn(Snapshot("http://x", status(BUSY, worker(2)), {"a" * 32: running()}, waiting), width=140))
    for part in ("well", "worker-1", "190%", "42%", "so\\x1b[2Jng\\u202e.wav", "1:05 left", "1 high", "4 low",
                 "97%", "2.0 GB of 8.0 GB free", "next 1.wav", "and 5 more", "q leaves"):  # fmt: skip
        assert part in text
    assert "\x1b" not in text and "\u202e" not in text


def test_trouble_and_a_server_that_is_away_are_seen_first() -> None:
    lines = drawn(Snapshot("http://x", status(BUSY, problems=("a worker hangs",)), lost="No answer", lost_seconds=75))
    assert "away" in lines[0]
    assert "No answer Asking again since 1:15. Below is what it said last." in " ".join(lines[1:4])
    assert any("! a worker hangs" in line for line in lines)
    assert "in trouble" in drawn(Snapshot("http://x", status(problems=("x",))))[0]
    assert "asking" in drawn(Snapshot("http://x"))[0]


@pytest.mark.parametrize("size", [(110, 24), (70, 20), (60, 18)])
@pytest.mark.parametrize("lost", [None, "No server answers at http://127.0.0.1:8000 (connection refused)."])
def test_the_screen_fits_its_terminal_whatever_there_is_to_show(size: tuple[int, int], lost: str | None) -> None:
    width, height = size
    many = [worker(n, state="idle") for n in range(60)] + [{**BUSY, "id": "worker-99"}]
    waiting = [TaskBody.model_validate(task(inputName=f"{n}.wav")) for n in range(5)]
    lines = drawn(Snapshot("http://x", status(*many), {"a" * 32: running()}, waiting, lost), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert "q leaves" in lines[-1]
    assert any("worker-99" in line for line in lines)  # who works is shown before who idles


# --- asking ----------------------------------------------------------------------------------------------------------


class Fake:
    """A client whose server says what a test wants."""

    url = "http://x"

    def __init__(self, *ids: str) -> None:
        self.failure: Exception | None = None
        self._ids = ids

    def status(self) -> StatusBody:
        if self.failure is not None:
            raise self.failure
        return status(BUSY)

    def tasks(self, state: str | None = None, *, limit: int | None = None) -> Any:
        places = {"queued": (3, 1, 2)}.get(state or "", (1,))
        made = [TaskBody.model_validate(task(id=str(n) * 32, queuePosition=n)) for n in places]
        return [TaskBody.model_validate(task(id=each)) for each in self._ids] if self._ids else made


def test_the_watcher_keeps_what_it_knew_while_the_server_is_away() -> None:
    now = [100.0]
    client: Any = Fake()
    watcher = Watcher(client, clock=lambda: now[0])
    watcher.ask()
    assert [each.queue_position for each in watcher.snapshot.waiting] == [1, 2, 3]
    client.failure = ServerUnreachable(url="http://x", detail="connection refused")
    for now[0] in (101.0, 104.0):
        watcher.ask()
    assert (watcher.snapshot.lost_seconds, watcher.snapshot.status) == (3.0, status(BUSY))
    client.failure = None
    watcher.ask()
    assert watcher.snapshot.lost is None
    client.failure = Unauthorized()
    watcher.run()
    assert isinstance(watcher.refused, Unauthorized)


def test_ids_are_shown_as_short_as_tells_them_apart_and_found_again() -> None:
    ids = ["abcdef00" + "0" * 24, "abcdef00" + "1" * 24, "12345678" + "0" * 24]
    shown = short_ids(ids)
    assert shown == {each: each[:9] for each in ids}
    assert short_ids(ids[1:]) == {each: each[:8] for each in ids[1:]}
    client: Any = Fake(*ids)
    assert whole_ids(client, [shown[ids[0]], "1234", ids[2]]) == [ids[0], ids[2]]
    with pytest.raises(UsageError, match="abcdef00 is the beginning of 2 ids"):
        whole_ids(client, ["abcdef00"])
    with pytest.raises(TaskNotFound, match="begins with ffff"):
        whole_ids(client, ["ffff"])
    for wrong in ("abc", "../..", "xyzxyz"):
        with pytest.raises(UsageError, match="no id"):
            whole_ids(client, [wrong])
