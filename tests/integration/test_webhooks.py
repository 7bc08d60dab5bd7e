"""The courier over a real queue, a real pool and real receivers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.queue.deliveries import Deliveries, Delivery
from demucs_server_worker.settings import load_settings
from demucs_server_worker.task import Task, TaskRequest, Webhook
from demucs_server_worker.webhooks import schedule, signature
from demucs_server_worker.webhooks.courier import Courier
from demucs_server_worker.webhooks.rules import TELLABLE, Rules
from demucs_server_worker.webhooks.sender import Sender
from tests.managers import add, manager, run
from tests.receivers import Receiver, Told

SECRET = "a secret that nobody guesses"  # noqa: S105


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "FIRST_DELAY_SECONDS", 0.01)


class Scene:
    """A manager with scripted workers, and a courier that tells of it."""

    def __init__(self, folder: Path, manager: WorkerManager, rules: Rules, timeout_seconds: float) -> None:
        self.folder, self.manager = folder, manager
        self.results: list[str] = []
        self.courier = Courier(
            manager.with_deliveries, rules, sender=Sender(rules, timeout_seconds=timeout_seconds),
            on_result=lambda result, seconds: self.results.append(result),
        )  # fmt: skip

    async def submit(self, script: str, url: str, *events: str, **fields: Any) -> Task:
        (self.folder / "out").mkdir(exist_ok=True)
        values = {"input_path": self.folder / "song.wav", "output_dir": self.folder / "out", "input_name": script}
        webhook = Webhook(url=url, events=events) if events else Webhook(url=url)
        request = msgspec.structs.replace(TaskRequest.parse({**values, **fields}), webhook=webhook)
        task, _ = await self.manager.submit(request)
        return task

    async def until_none_is_pending(self) -> None:
        while self.courier.pending or await self.manager.with_deliveries(pending):
            await asyncio.sleep(0.01)


def pending(deliveries: Deliveries) -> list[Delivery]:
    """The deliveries that are next of their tasks."""
    return [
        delivery
        for origin in deliveries.begin()
        for delivery in deliveries.due(origin, now=float("inf"), limit=1000).deliveries
    ]


@asynccontextmanager
async def scene(folder: Path, *hosts: str, timeout_seconds: float = 10.0, workers: int = 1) -> AsyncIterator[Scene]:
    rules = Rules.of(load_settings(webhook_hosts=",".join(hosts), webhook_secret=SECRET))
    async with manager(folder, workers=workers) as m:
        made = Scene(folder, m, rules, timeout_seconds)
        m.follow(made.courier.hear, made.courier.end)
        await made.courier.start()
        yield made
    await made.courier.close()


async def came(receiver: Receiver, number: int, such: Callable[[Told], bool] = lambda told: True) -> list[Told]:
    return await asyncio.to_thread(receiver.wait, number, such)


def test_the_final_event_is_told_signed_with_the_task_as_it_is(tmp_path: Path) -> None:
    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, receiver.netloc) as s:
            task = await s.submit("succeed", receiver.url)
            (told,) = await came(receiver, 1)
            await s.until_none_is_pending()
            done = s.manager.get_task(task.id)
            assert s.results == ["delivered"]
        assert told.path == "/hooks"
        assert signature.verify(SECRET, told.headers["demucs-worker-signature"], told.body, done.finished_at or 0)
        assert told.headers["content-type"] == "application/json"
        assert told.headers["demucs-worker-event"] == told.event == "completed"
        assert told.headers["demucs-worker-delivery"] == told.json["id"]
        assert told.headers["host"] == receiver.netloc
        body = told.json["task"]
        assert (body["id"], body["state"], body["progress"], body["stage"]) == (task.id, "completed", 1.0, "done")
        assert [stem["sha256"] for stem in body["stems"]] == [stem.sha256 for stem in done.stems]

    with Receiver() as receiver:
        run(play(receiver))


def test_the_events_of_a_task_are_told_in_their_order(tmp_path: Path) -> None:
    # The first three are refused once each: those that follow wait for them.
    refused: set[str] = set()

    def answer(told: Told) -> int:
        first = told.event not in refused and len(refused) < 3
        refused.add(told.event)
        return 500 if first else 200

    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, receiver.netloc) as s:
            await s.submit("raise disk", receiver.url, *TELLABLE)
            await came(receiver, 9)
            await s.until_none_is_pending()
            assert s.results.count("failed") == 3 and s.results.count("delivered") == 7
        events = [told.event for told in receiver.told]
        assert events[:3] == ["queued", "queued", "started"] and events[-1] == "failed"
        told = [told for index, told in enumerate(receiver.told) if events[index - 1 : index] != [told.event]]
        assert [t.event for t in told] == ["queued", *["started", "retrying"] * 2, "started", "failed"]
        assert [t.json["task"]["state"] for t in told] == ["queued", *["running", "queued"] * 2, "running", "failed"]
        assert [t.json["task"]["attempt"] for t in told] == [1, 1, 2, 2, 3, 3, 3]
        assert told[-1].json["task"]["error"]["code"] == "disk_full"
        times = [t.json["createdAt"] for t in told]
        assert times == sorted(times)

    with Receiver(answer) as receiver:
        run(play(receiver))


def test_a_receiver_that_fails_is_told_the_same_again(tmp_path: Path) -> None:
    statuses = iter([500, 302, 404, 429, 200])

    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, receiver.netloc) as s:
            await s.submit("succeed", receiver.url)
            told = await came(receiver, 5)
            await s.until_none_is_pending()
            assert s.results == ["failed"] * 4 + ["delivered"]
        assert {t.path for t in receiver.told} == {"/hooks"}, "a redirect was followed"
        assert len({t.body for t in told}) == 1

    with Receiver(lambda told: next(statuses)) as receiver:
        run(play(receiver))


def test_a_receiver_that_is_gone_is_told_no_more(tmp_path: Path) -> None:
    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, receiver.netloc) as s:
            with capture_logs() as logs:
                await s.submit("succeed", receiver.url)
                await came(receiver, 1)
                await s.until_none_is_pending()
            assert s.results == ["given_up"]
            (line,) = [line for line in logs if line["event"] == "webhook given up"]
            assert line["reason"] == "it answered 410" and line["log_level"] == "warning"

    with Receiver(lambda told: 410) as receiver:
        run(play(receiver))


def test_what_is_logged_of_a_delivery_is_not_about_the_request_that_woke_it(tmp_path: Path) -> None:
    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, receiver.netloc) as s:
            running = await add(s.manager, tmp_path, "wait")
            queued = await s.submit("succeed", receiver.url)
            with capture_logs([structlog.contextvars.merge_contextvars]) as logs:
                with structlog.contextvars.bound_contextvars(request="r1"):
                    await s.manager.cancel(queued.id)
                await came(receiver, 1)
                await s.until_none_is_pending()
            (line,) = [line for line in logs if line["event"] == "webhook given up"]
            assert line["task"] == queued.id and "request" not in line
            assert [line["request"] for line in logs if line["event"] == "cancelled"] == ["r1"]
            await s.manager.cancel(running.id)

    with Receiver(lambda told: 410) as receiver:
        run(play(receiver))


def test_after_a_day_of_failures_it_is_given_up_with_a_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "GIVE_UP_AFTER_SECONDS", 0.05)

    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, receiver.netloc) as s:
            with capture_logs() as logs:
                await s.submit("succeed", receiver.url)
                await came(receiver, 2)
                await s.until_none_is_pending()
            assert s.results[-1] == "given_up" and set(s.results[:-1]) == {"failed"}
            (line,) = [line for line in logs if line["event"] == "webhook given up"]
            assert (line["reason"], line["tries"]) == ("it answered 503", len(receiver.told))

    with Receiver(lambda told: 503) as receiver:
        run(play(receiver))


def test_a_receiver_that_answers_too_late_is_told_again(tmp_path: Path) -> None:
    late = threading.Event()

    def answer(told: Told) -> int:
        if told is receiver.told[0]:
            late.wait()
        return 200

    async def play() -> None:
        # A busy machine may be late with the answers that follow, too.
        async with scene(tmp_path, receiver.netloc, timeout_seconds=0.5) as s:
            with capture_logs() as logs:
                await s.submit("succeed", receiver.url)
                await came(receiver, 2)
                await s.until_none_is_pending()
            assert s.results[0] == "failed" and s.results[-1] == "delivered" and set(s.results[1:-1]) <= {"failed"}
            reasons = [line["reason"] for line in logs if line["event"] == "webhook not delivered yet"]
            assert reasons[0] == "it did not answer within 0.5 seconds"
        assert len({told.body for told in receiver.told}) == 1
        assert {told.headers["demucs-worker-delivery"] for told in receiver.told} == {receiver.told[0].json["id"]}

    with Receiver(answer) as receiver:
        try:
            run(play())
        finally:
            late.set()


def test_receivers_that_hang_or_are_dead_hold_up_no_other(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(told: Told) -> int:
        release.wait(60)
        return 200

    async def play(hanging: Receiver, well: Receiver) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            dead = f"127.0.0.1:{closed.getsockname()[1]}"
            hosts = (hanging.netloc, well.netloc, dead)
            async with scene(tmp_path, *hosts, timeout_seconds=60, workers=2) as s:
                for number in range(20):
                    for url in (hanging.url, f"http://{dead}/", well.url):
                        await s.submit("succeed", url, "queued", file_id=f"{url}{number}")
                await came(well, 20)
                assert 1 <= len(hanging.told) <= 4, "so many at once to one that hangs"
                assert "delivered" in s.results and s.courier.pending >= 40
                release.set()
                await came(hanging, 20)

    with Receiver(hang) as hanging, Receiver() as well:
        run(play(hanging, well))


def test_no_worker_waits_for_a_receiver(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(told: Told) -> int:
        release.wait(60)
        return 200

    async def play(hanging: Receiver) -> None:
        async with scene(tmp_path, hanging.netloc, timeout_seconds=60) as s:
            tasks = [await s.submit("succeed", hanging.url) for _ in range(8)]
            for task in tasks:
                await s.manager.wait(task.id)
            assert len(hanging.told) <= 4
            release.set()
            await came(hanging, 8)

    with Receiver(hang) as hanging:
        run(play(hanging))


def test_what_was_not_told_at_a_shutdown_is_told_by_the_next_start(tmp_path: Path) -> None:
    async def before() -> Task:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            async with scene(tmp_path, f"127.0.0.1:{closed.getsockname()[1]}") as s:
                task = await s.submit("succeed", f"http://127.0.0.1:{closed.getsockname()[1]}/", "started", "completed")
                return await s.manager.wait(task.id)

    async def after(receiver: Receiver) -> list[Told]:
        async with scene(tmp_path, receiver.netloc) as s:
            told = await came(receiver, 2)
            await s.until_none_is_pending()
            return told

    task = run(before())
    assert task.request.webhook is not None
    port = int(task.request.webhook.url.split(":")[2].strip("/"))
    with Receiver(port=port) as receiver:
        told = run(after(receiver))
    assert [(t.event, t.json["task"]["id"]) for t in told] == [("started", task.id), ("completed", task.id)]


def test_a_task_that_was_deleted_is_told_as_it_was(tmp_path: Path) -> None:
    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, receiver.netloc) as s:
            task = await s.submit("raise unreadable", receiver.url)
            await came(receiver, 1)
            await s.manager._on_database_thread(s.manager._queue.delete, task.id)
            again.set()
            told = await came(receiver, 2)
            assert told[1].body == told[0].body and told[0].json["task"]["state"] == "failed"

    again = threading.Event()
    with Receiver(lambda told: 200 if again.is_set() else 500) as receiver:
        run(play(receiver))


def test_completed_is_told_only_when_the_stems_are_at_their_place(tmp_path: Path) -> None:
    from tests.queue_cases import completed, request, take

    url = "http://127.0.0.1:9/"

    async def play() -> None:
        async with manager(tmp_path, start="mute") as m:

            def verbs() -> tuple[list[str], list[str]]:
                queue = m._queue
                wanted = msgspec.structs.replace(request(), webhook=Webhook(url=url))
                queue.put(wanted, now=1.0, max_attempts=1, max_queued=None)
                queue.complete(take(queue), completed(), 30.0)
                before = [delivery.event for delivery in pending(queue.deliveries)]
                queue.published(queue.page().tasks[0].id)
                return before, [delivery.event for delivery in pending(queue.deliveries)]

            assert await m._on_database_thread(verbs) == ([], ["completed"])

    run(play())


def test_a_host_that_is_no_longer_allowed_is_told_nothing(tmp_path: Path) -> None:
    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, "studio.example") as s:
            with capture_logs() as logs:
                await s.submit("succeed", receiver.url)
                while "failed" not in s.results:
                    await asyncio.sleep(0.01)
            assert any(line.get("reason") == "its host is no longer among those that are allowed" for line in logs)
        assert receiver.told == []

    with Receiver() as receiver:
        run(play(receiver))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254"])
def test_a_name_that_was_made_to_lead_here_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    look_up = socket.getaddrinfo

    def rebound(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        return look_up(address if host == "studio.example" else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)

    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, f"studio.example:{receiver.port}") as s:
            with capture_logs() as logs:
                await s.submit("succeed", f"http://studio.example:{receiver.port}/hooks")
                while "failed" not in s.results:
                    await asyncio.sleep(0.01)
            reasons = {line.get("reason") for line in logs}
            assert f"studio.example leads to {address}, where no webhook may go" in reasons
        assert receiver.told == []

    with Receiver() as receiver:
        run(play(receiver))


def test_a_name_is_connected_to_at_the_address_that_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer of the name server, to whoever asks again, leads elsewhere."""
    look_up = socket.getaddrinfo
    asked: list[str] = []

    def changing(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host == "localhost":
            asked.append(host)
            return look_up("127.0.0.1" if len(asked) == 1 else "127.0.0.9", port, *args, **kwargs)
        return look_up(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", changing)

    async def play(receiver: Receiver) -> None:
        async with scene(tmp_path, f"localhost:{receiver.port}") as s:
            await s.submit("succeed", f"http://localhost:{receiver.port}/hooks")
            (told,) = await came(receiver, 1)
            await s.until_none_is_pending()
            assert s.results == ["delivered"]
        assert told.headers["host"] == f"localhost:{receiver.port}" and asked == ["localhost"]

    with Receiver() as receiver:
        run(play(receiver))


def test_the_database_holds_all_of_a_task(tmp_path: Path) -> None:
    """Whoever adds a column to `task` adds it to the view from which deliveries are made, too."""

    async def play() -> None:
        async with manager(tmp_path, start="mute") as m:

            def tell() -> tuple[Task, Task]:
                from tests.queue_cases import ERROR, request, take

                wanted = msgspec.structs.replace(
                    request(file_id="f1", project_name="«ü»", stems=["vocals"]),
                    webhook=Webhook(url="http://127.0.0.1:9/", events=("retrying",)),
                    duration_seconds=12.5, input_sha256="0" * 64,
                )  # fmt: skip
                m._queue.put(wanted, now=1.5, max_attempts=2, max_queued=None)
                after = m._queue.retry_later(take(m._queue), ERROR, 99.25, 30.75)
                assert after is not None
                return pending(m._queue.deliveries)[0].task, after

            told, after = await m._on_database_thread(tell)
            assert told == after
            assert told.history and told.error

    run(play())
    columns = {"number", "file_id", "rank", "seq", "waiting"}  # what the queue orders by, and parts of the request
    import sqlite3

    with sqlite3.connect(tmp_path / "data" / "queue.db") as raw:
        stored = {row[1] for row in raw.execute("PRAGMA table_info(task)")}
        (view,) = raw.execute("SELECT sql FROM sqlite_schema WHERE name = 'told_task'").fetchone()
    assert {name for name in stored - columns if f"'{name}'" not in view} == set()
