"""Server-Sent Events over real connections."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from demucs_server_worker.events import EventKind
from demucs_server_worker.server import sse
from demucs_server_worker.server.history import History
from tests.http_server import API, DEADLINE_SECONDS, InProcess, serving
from tests.servers import until

LISTENERS = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("events"), workers=2) as server:
        yield server


@dataclass
class Heard:
    """One event as a client reads it."""

    kind: str
    id: str
    data: dict[str, Any]


class Stream:
    """One connection to a stream, read by hand: what a browser would make of it is checked here."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.comments = 0
        self.retry: int | None = None
        self.last_id = ""
        self._lines = answer.iter_lines()

    def events(self) -> Iterator[Heard]:
        kind, data = "", []
        for line in self._lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    yield Heard(kind, self.last_id, json.loads("\n".join(data)))
                kind, data = "", []
            elif not name:
                self.comments += 1
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                self.last_id = value
            elif name == "retry":
                self.retry = int(value)

    def until(self, kind: str, task_id: str | None = None) -> list[Heard]:
        """The events up to the first of this kind."""
        found = []
        for event in self.events():
            found.append(event)
            if event.kind == kind and task_id in (None, event.data.get("taskId")):
                return found
        raise AssertionError(f"it ended before {kind}: {found}")


@contextmanager
def stream(server: InProcess, path: str, last_id: str | None = None, **query: str) -> Iterator[Stream]:
    headers = {"Last-Event-ID": last_id} if last_id is not None else {}
    with server.client.stream("GET", API + path, headers=headers, params=query, timeout=DEADLINE_SECONDS) as answer:
        assert answer.status_code == 200, answer.read()
        yield Stream(answer)


def go(server: InProcess) -> None:
    (server.folder / "out" / "go").touch()


@pytest.fixture(autouse=True)
def wait_for_go(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("server") if "server" in request.fixturenames else None
    if server is not None:
        (server.folder / "out" / "go").unlink(missing_ok=True)


def kinds(events: list[Heard]) -> list[str]:
    """Without progress, of which any number may come."""
    return [event.kind for event in events if event.kind != "progress"]


def test_the_stream_of_a_task_begins_with_its_state_and_ends_with_its_end(server: InProcess) -> None:
    task = server.submit("busy")
    with stream(server, f"/tasks/{task['id']}/events") as heard:
        assert heard.answer.headers["content-type"].startswith("text/event-stream")
        assert heard.answer.headers["cache-control"] == "no-store"
        assert heard.answer.headers["x-accel-buffering"] == "no"
        events = heard.events()
        first = next(events)
        assert first.kind in ("queued", "progress") and first.data["task"]["id"] == task["id"]
        go(server)
        rest = list(events)
    assert heard.retry == sse.RETRY_MILLISECONDS
    assert kinds(rest)[-1] == "completed"
    last = rest[-1].data
    assert (last["event"], last["taskId"], last["task"]["state"]) == ("completed", task["id"], "completed")
    assert last["task"]["stems"][0]["url"].startswith(f"{API}/tasks/{task['id']}/stems/")
    assert {event.data["taskId"] for event in rest} == {task["id"]}


def test_a_task_that_ended_gives_its_end_and_no_more(server: InProcess) -> None:
    task = server.submit("raise unreadable")
    server.until_state(task["id"], "failed")
    with stream(server, f"/tasks/{task['id']}/events") as heard:
        (event,) = heard.events()
    assert (event.kind, event.data["error"]["code"]) == ("failed", "input_unreadable")
    # A browser opens a stream that ended again, after the last id; 204 tells it to let it be.
    answer = server.client.get(f"{API}/tasks/{task['id']}/events", headers={"Last-Event-ID": heard.last_id})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_task_that_is_retried_after_its_end_is_followed_again(server: InProcess) -> None:
    task = server.submit("raise unreadable")
    server.until_state(task["id"], "failed")
    with stream(server, f"/tasks/{task['id']}/events") as heard:
        list(heard.events())
    server.client.post(f"{API}/tasks/{task['id']}/retry").raise_for_status()
    with stream(server, f"/tasks/{task['id']}/events", heard.last_id) as again:
        assert kinds(list(again.events())) == ["queued", "started", "failed"]


def test_an_unknown_task_is_a_problem_and_no_stream(server: InProcess) -> None:
    answer = server.client.get(f"{API}/tasks/nothing/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_all_events_come_in_their_order_with_rising_ids(server: InProcess) -> None:
    with stream(server, "/events") as heard:
        task = server.submit("succeed")
        found = heard.until("completed", task["id"])
    mine = [event for event in found if event.data["taskId"] == task["id"]]
    assert kinds(mine) == ["queued", "started", "completed"]
    numbers = [int(event.id.rpartition("-")[2]) for event in found]
    assert numbers == sorted(set(numbers))
    assert all(event.kind == event.data["event"] for event in found)
    assert mine[-1].data["at"].endswith("Z")


@pytest.mark.parametrize("how", ["header", "query"])
def test_what_happened_while_a_client_was_away_is_told_when_it_is_back(server: InProcess, how: str) -> None:
    with stream(server, "/events") as before:
        first = server.submit("succeed")
        before.until("completed", first["id"])
    second = server.submit("succeed")
    server.until_state(second["id"], "completed")
    asked = (before.last_id, {}) if how == "header" else (None, {"lastEventId": before.last_id})
    with stream(server, "/events", asked[0], **asked[1]) as after:
        assert kinds(after.until("completed", second["id"])) == ["queued", "started", "completed"]


def test_a_client_that_leaves_before_the_first_event_misses_none(server: InProcess) -> None:
    with stream(server, "/events") as before:
        for _ in before._lines:
            if before.answer.num_bytes_downloaded:
                break
        opening = next(line for line in before._lines if line.startswith("id: ")).removeprefix("id: ")
    task = server.submit("succeed")
    server.until_state(task["id"], "completed")
    with stream(server, "/events", opening) as after:
        assert kinds(after.until("completed", task["id"])) == ["queued", "started", "completed"]


def test_a_stream_of_one_task_is_resumed_without_what_was_heard(server: InProcess) -> None:
    task = server.submit("busy")
    with stream(server, "/events", f"{server.services.feed.history.epoch}-0") as all_events:
        started = all_events.until("started", task["id"])[-1]
    go(server)
    server.until_state(task["id"], "completed")
    with stream(server, f"/tasks/{task['id']}/events", started.id) as after:
        assert kinds(list(after.events())) == ["completed"]


@pytest.mark.parametrize("last_id", ["0badf00d-5", "nonsense", "-", "0badf00d-99999999999999999999"])
def test_an_id_of_an_earlier_life_gives_the_present_state(server: InProcess, last_id: str) -> None:
    task = server.submit("busy")
    with stream(server, "/events", last_id) as heard:
        first = next(heard.events())
        assert (first.kind, first.data["event"]) == ("reset", "reset")
    with stream(server, f"/tasks/{task['id']}/events", last_id) as heard:
        first = next(heard.events())
        assert first.data["task"]["id"] == task["id"] and first.kind in ("queued", "progress")
    go(server)
    server.until_state(task["id"], "completed")


def test_an_id_that_is_too_old_gives_the_present_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demucs_server_worker.server.feed.History", lambda: History(most_entries=3))
    with serving(tmp_path) as server:
        with stream(server, "/events") as heard:
            task = server.submit("succeed")
            heard.until("completed", task["id"])
        for _ in range(3):
            other = server.submit("succeed")
            server.until_state(other["id"], "completed")
        with stream(server, "/events", heard.last_id) as again:
            assert next(again.events()).kind == "reset"
        with stream(server, f"/tasks/{task['id']}/events", heard.last_id) as again:
            assert kinds(list(again.events())) == ["completed"]


def test_a_silent_stream_has_a_heart_that_beats(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.01)
    with stream(server, "/events") as heard:
        beats = (line for line in heard._lines if line == ":")
        assert [next(beats) for _ in range(3)] == [":"] * 3


def test_streams_end_when_the_server_stops(tmp_path: Path) -> None:
    ended = threading.Event()

    def listen(server: InProcess) -> None:
        with httpx.stream("GET", f"{server.url}{API}/events", timeout=DEADLINE_SECONDS) as answer:
            list(answer.iter_raw())
        ended.set()

    with serving(tmp_path) as server:
        listener = threading.Thread(target=listen, args=(server,))
        listener.start()
        until(lambda: server.services.feed.history.waiting == 1, "it listens")
    listener.join(DEADLINE_SECONDS)
    assert ended.is_set(), "the stream was broken off instead of ended"


def test_a_listener_that_goes_away_is_forgotten(server: InProcess) -> None:
    history = server.services.feed.history
    before = history.waiting
    with stream(server, "/events") as heard:
        next(iter(heard._lines))
        until(lambda: history.waiting == before + 1, "it listens")
    until(lambda: history.waiting == before, "it is forgotten")


def connect(server: InProcess) -> socket.socket:
    """A client that asks for all events, and keeps little of what it does not read."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    made = socket.socket()
    made.settimeout(DEADLINE_SECONDS)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    made.connect((host, int(port)))
    made.sendall(f"GET {API}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return made


def publish(server: InProcess, number: int) -> None:
    """That many events of twenty kilobytes."""

    async def work() -> None:
        for _ in range(number):
            server.manager._bus.publish(EventKind.HEALTH_CHANGED, detail="x" * 20_000)

    server.call(work())


def test_two_hundred_listeners_half_of_them_stalled_harm_nobody(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "STALL_SECONDS", 2.0)
    history = server.services.feed.history
    done: list[list[str]] = []

    def listen(client: socket.socket) -> None:
        told = b""
        while b"event: completed" not in told:
            more = client.recv(65_536)
            assert more, "one that reads was cut off"
            told += more
        done.append([kind for kind in re.findall(r"^event: (\w+)", told.decode(), re.MULTILINE) if kind != "progress"])

    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(LISTENERS)]
        silent, reading = clients[: LISTENERS // 2], clients[LISTENERS // 2 :]
        readers = [threading.Thread(target=listen, args=(client,)) for client in reading]
        for reader in readers:
            reader.start()
        until(lambda: history.waiting == LISTENERS, "all listen")
        # More than the system keeps for those that do not read.
        for _ in range(20):
            publish(server, 1)
        task = server.submit("succeed")
        for reader in readers:
            reader.join(DEADLINE_SECONDS)
        assert done == [["health_changed"] * 20 + ["queued", "started", "completed"]] * (LISTENERS // 2)
        assert server.until_state(task["id"], "completed")
        # Those that stalled are cut off, and their connections are gone, though they never read to the end.
        until(lambda: stalled(server) == LISTENERS // 2, "the stalled are cut off")
        assert all(was_cut(each) for each in silent)
    until(lambda: history.waiting == 0, "all are forgotten")


def stalled(server: InProcess) -> int:
    """How many streams were cut off."""
    return int(server.services.metrics.streams.labels("stalled")._value.get())


def was_cut(client: socket.socket) -> bool:
    """Whether the connection was broken off, and not ended."""
    try:
        while client.recv(65_536):
            pass
    except ConnectionError:
        return True
    return False
