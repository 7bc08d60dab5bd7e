"""What the clients do when a server is busy, away, broken or somebody else, without network and time."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from demucs_server_worker import errors
from demucs_server_worker.client import calls, download, following, submission
from demucs_server_worker.client.effects import Reply, Silent
from demucs_server_worker.client.requests import get
from demucs_server_worker.client.server import Patience
from demucs_server_worker.wire.event import EventBody
from demucs_server_worker.wire.status import Alive
from demucs_server_worker.wire.task import TaskBody
from tests.client_flows import Body, World, broken, problem, refused, said, script, stream, task

ID = "a" * 32
ALIVE = said(200, {"status": "alive"})


def ask(world: World) -> Alive:
    return world.play(calls.ask(world.server, get("health", "live"), Alive))


# --- one request -----------------------------------------------------------------------------------------------------


def test_a_request_that_did_not_get_through_is_sent_again_and_not_for_ever() -> None:
    world = World(script(refused(), broken(), ALIVE))
    assert ask(world).status == "alive"
    assert (len(world.requests), len(world.slept)) == (3, 2)
    world = World(lambda request: refused(), Patience(tries=4))
    with pytest.raises(errors.ServerUnreachable, match=r"http://x \(connection refused\).*demucs-server-worker serve"):
        ask(world)
    assert len(world.requests) == 4


def test_a_change_that_may_have_been_heard_is_not_sent_again() -> None:
    world = World(lambda request: broken())
    with pytest.raises(errors.ServerUnreachable):
        world.play(calls.change_task(world.server, ID, "cancel"))
    assert len(world.requests) == 1
    world = World(script(refused(), said(200, task("cancelled"))))
    assert world.play(calls.change_task(world.server, ID, "cancel")).state == "cancelled"


def test_a_full_queue_is_asked_again_when_it_says_and_as_long_as_the_patience_lasts() -> None:
    full = problem(503, "queue_full", retryable=True, retry_after="10")
    world = World(script(full, full, ALIVE))
    ask(world)
    assert world.slept == [10.0, 10.0]
    world = World(lambda request: full, Patience(busy_seconds=25))
    with pytest.raises(errors.QueueFull, match="the sentence about queue_full"):
        ask(world)
    assert world.slept == [10.0, 10.0, 5.0]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthorized", errors.Unauthorized),
        (404, "not_found", errors.TaskNotFound),
        (409, "task_conflict", errors.IllegalTransition),
        (413, "input_too_large", errors.InputTooLarge),
        (415, "no_audio", errors.NoAudio),
        (422, "invalid_option", errors.InvalidOption),
        (503, "shutting_down", errors.ShuttingDown),
        (507, "disk_full", errors.DiskFull),
    ],
)
def test_a_refusal_is_the_error_that_it_is_in_process_and_is_final(status: int, code: str, kind: type) -> None:
    world = World(script(problem(status, code, retryable=kind.retryable)))
    with pytest.raises(kind, match=f"the sentence about {code}") as caught:
        ask(world)
    assert type(caught.value) is kind
    assert world.slept == []


def test_an_error_of_a_newer_server_keeps_its_code_and_sentence() -> None:
    with pytest.raises(errors.ServerError, match="the sentence about quota_spent") as caught:
        ask(World(script(problem(429, "quota_spent", retryable=True))))
    assert caught.value.problem == errors.ErrorInfo("quota_spent", "the sentence about quota_spent", True)


@pytest.mark.parametrize(
    "answer", [Reply(200, {}, b"<html>"), said(200, {"status": "dead"}), Reply(404, {}, b"nginx"), Reply(301, {}, b"")]
)
def test_another_server_is_known_for_one(answer: Reply) -> None:
    with pytest.raises(errors.NotOurServer, match="http://x is not demucs-server-worker"):
        ask(World(script(answer)))


def test_pages_are_turned_until_there_are_enough() -> None:
    def page(request: Any) -> Reply:
        first, count = int(request.query.get("cursor", 0)), int(request.query["limit"])
        tasks = [task(id=f"{n:032x}") for n in range(first, min(first + count, 250))]
        return said(200, {"tasks": tasks, "cursor": first + count if first + count < 250 else None})

    for limit, found, requests in ((None, 250, 3), (120, 120, 2), (1, 1, 1)):
        world = World(page)
        world.play(calls.tasks(world.server, "queued", limit))
        assert [each.id for each in world.emitted] == [f"{n:032x}" for n in range(found)]
        assert len(world.requests) == requests
        assert world.requests[0].query["state"] == "queued"


def test_health_is_asked_once_and_no_is_an_answer() -> None:
    world = World(script(problem(503, "not_ready", retryable=True, retry_after="5")))
    health = world.play(calls.health(world.server))
    assert (health.ready, health.detail, world.slept) == (False, "the sentence about not_ready", [])


# --- handing over ----------------------------------------------------------------------------------------------------


def submit(world: World, file: Any = None, **more: Any) -> TaskBody:
    paths = {"input_path": more.pop("input_path", None), "output_dir": more.pop("output_dir", None)}
    return world.play(submission.submit(world.server, file, **paths, on_progress=None, options=more))


def test_a_submission_that_broke_off_is_repeated_with_the_same_key() -> None:
    world = World(script(broken(), said(202, task())))
    submit(world, io.BytesIO(b"sound"))
    keys = [request.headers["Idempotency-Key"] for request in world.requests]
    assert len(keys) == 2 and keys[0] == keys[1] and len(keys[0]) >= 32
    world = World(script(said(202, task())))
    submit(world, io.BytesIO(b"sound"))
    assert world.requests[0].headers["Idempotency-Key"] != keys[0]


def test_the_callers_own_id_is_the_key() -> None:
    world = World(script(broken(), said(202, task())))
    submit(world, input_path="/a.wav", output_dir="/out", file_id="ä1", priority="high")
    assert world.requests[1].headers == {}
    assert world.requests[1].json == {
        "fileId": "ä1", "priority": "high", "inputPath": "/a.wav", "outputDir": "/out",
    }  # fmt: skip


def test_a_stream_that_can_be_read_once_is_not_sent_twice() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    world = World(lambda request: broken())
    with pytest.raises(errors.ServerUnreachable):
        submit(world, Pipe(b"sound"))
    assert len(world.requests) == 1


def test_a_known_file_id_with_another_request_is_a_conflict() -> None:
    with pytest.raises(errors.TaskConflict):
        submit(World(script(problem(409, "task_conflict"))), io.BytesIO(b"x"), file_id="a")


def test_a_file_or_paths_on_the_server_but_not_both(tmp_path: Path) -> None:
    for arguments in ({}, {"input_path": "/a"}, {"file": io.BytesIO(b""), "output_dir": "/out"}):
        with pytest.raises(errors.InvalidOption, match="either a file to upload"):
            submit(World(script()), **arguments)
    with pytest.raises(errors.InputNotFound, match="gone"):
        submit(World(script()), tmp_path / "gone.wav")


# --- waiting ---------------------------------------------------------------------------------------------------------


class Told(list[str]):
    """Collects the events that a wait tells."""

    def __call__(self, event: EventBody) -> None:
        assert event.task is not None
        self.append(f"{event.event.value} {event.task.progress:g}")


def wait(world: World, timeout: float | None = None, told: Told | None = None) -> TaskBody:
    return world.play(following.wait(world.server, ID, timeout, told))


def server(*streams: Any, tasks: Any) -> Any:
    """Streams for those who listen, the task for those who ask; the last of each stays."""
    left, states = list(streams), list(tasks)

    def answer(request: Any) -> Any:
        source = left if request.path.endswith("/events") else states
        return source.pop(0) if len(source) > 1 else source[0]

    return answer


def test_a_wait_ends_with_the_last_event_and_tells_each_once() -> None:
    told = Told()
    events = stream(
        ("started", task("running")), ("progress", task("running", progress=0.5)), ("completed", task("completed"))
    )
    world = World(server(events, tasks=[said(200, task("queued"))]))
    assert wait(world, told=told).state == "completed"
    assert told == ["started 0", "progress 0.5", "completed 0"]
    assert events.closed


def test_a_finished_task_needs_no_event() -> None:
    told = Told()
    silent = stream()
    assert wait(World(server(silent, tasks=[said(200, task("completed", progress=1.0))])), told=told).progress == 1.0
    assert told == ["completed 1"]


def test_a_wait_takes_up_a_broken_stream_after_the_last_event_it_heard() -> None:
    told = Told()
    first = stream(("started", task("running")), then=broken())
    second = stream(("completed", task("completed")), first=2)
    world = World(server(first, refused(), refused(), second, tasks=[said(200, task("running"))]))
    wait(world, told=told)
    assert told == ["started 0", "completed 0"]
    listening = [request for request in world.requests if request.path.endswith("/events")]
    assert [request.headers.get("Last-Event-ID") for request in listening] == [None, "life-1", "life-1", "life-1"]


def test_a_wait_hears_of_what_happened_while_nobody_listened() -> None:
    gone = stream(then=broken())
    world = World(server(gone, stream(), tasks=[said(200, task("running")), said(200, task("completed"))]))
    assert wait(world).state == "completed"


def test_a_wait_outlasts_a_restart_but_not_a_server_that_is_gone() -> None:
    away = problem(503, "shutting_down", retryable=True)
    world = World(server(away, *[refused()] * 20, stream(("completed", task("completed"))), tasks=[said(200, task())]))
    assert wait(world).state == "completed"
    world = World(lambda request: refused(), Patience(away_seconds=100))
    with pytest.raises(errors.ServerUnreachable):
        wait(world)
    assert 100 < world.now < 120


@pytest.mark.parametrize(
    "useless", [Silent("", sent=True), said(200, {}), problem(404, "not_found"), Body([Silent("", sent=True)],
               headers={"content-type": "text/event-stream"})]
)  # fmt: skip
def test_where_no_stream_gets_through_the_task_is_asked_for(useless: Any) -> None:
    told = Told()
    states = [said(200, task(state)) for state in ("queued", "queued", "running", "running", "completed")]
    assert wait(World(server(useless, tasks=states)), told=told).state == "completed"
    assert told[-2:] == ["progress 0", "completed 0"] and told.count("progress 0") == 1


def test_a_wait_keeps_its_deadline_to_the_second() -> None:
    world = World(server(stream(), tasks=[said(200, task("running"))]))

    def heartbeats(request: Any) -> Any:
        if not request.path.endswith("/events"):
            return said(200, task("running"))
        return Body(_Heartbeats(world), headers={"content-type": "text/event-stream"})  # type: ignore[arg-type]

    world._answer = heartbeats
    with pytest.raises(TimeoutError, match="not finished after 60 seconds"):
        wait(world, timeout=60)
    assert 60 <= world.now < 61


class _Heartbeats(list[bytes]):
    """A stream that says every 15 seconds that it lives, and nothing else."""

    def __init__(self, world: World) -> None:
        super().__init__([b": heartbeat\n\n"])
        self._world = world

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self
        self._world.now += 15
        return b": heartbeat\n\n"


def test_how_a_task_ended_is_raised_as_in_process() -> None:
    why = {"code": "no_audio", "message": "it has no sound", "retryable": False}
    with pytest.raises(errors.TaskFailed, match="it has no sound") as caught:
        wait(World(server(stream(), tasks=[said(200, task("failed", error=why))])))
    assert caught.value.error == errors.ErrorInfo("no_audio", "it has no sound", False)
    with pytest.raises(errors.TaskCancelled):
        wait(World(server(stream(("cancelled", task("cancelled"))), tasks=[said(200, task())])))
    with pytest.raises(errors.TaskNotFound):
        wait(World(lambda request: problem(404, "not_found")))


def test_events_of_a_task_end_with_its_last_also_when_the_stream_forgot_it() -> None:
    first = stream(("started", task("running")))
    world = World(server(first, tasks=[said(200, task("completed"))]))
    world.play(following.events(world.server, ID))
    assert [event.event.value for event in world.emitted] == ["started", "completed"]


def test_an_event_of_a_kind_unknown_here_is_passed_over() -> None:
    events = stream(("paused", task("running")), ("completed", task("completed")))
    world = World(server(events, tasks=[said(200, task())]))
    world.play(following.events(world.server, ID))
    assert [event.event.value for event in world.emitted] == ["completed"]


# --- fetching --------------------------------------------------------------------------------------------------------

SOUND = b"".join(bytes([n]) * 100 for n in range(100))
SHA256 = hashlib.sha256(SOUND).hexdigest()


def done(sha256: str = SHA256, **changes: Any) -> TaskBody:
    stem = {
        "name": "vocals", "path": None, "url": None, "format": "wav", "sampleRate": 44100, "channels": 2,
        "durationSeconds": 1.0, "bytes": len(SOUND), "sha256": sha256, "peak": 0.5, **changes,
    }  # fmt: skip
    return TaskBody.model_validate(task("completed", stems=[stem]))


def fetch(world: World, folder: Path, body: TaskBody, **more: Any) -> list[Path]:
    given = {"stems": None, "format": None, "as_zip": False, **more}
    return world.play(download.download(world.server, body, folder, **given))


def ranges(breaks_at: int, sound: bytes = SOUND) -> Any:
    """A server of ranges whose every connection breaks after some bytes."""

    def answer(request: Any) -> Body:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        rest, status = sound[start : start + breaks_at], 206 if start else 200
        headers = {"etag": '"tag"', **({"content-range": f"bytes {start}-9/10"} if start else {})}
        ends = start + breaks_at >= len(sound)
        return Body([rest[:50], rest[50:], *([] if ends else [broken()])], status, headers)

    return answer


def test_a_download_that_breaks_off_again_and_again_goes_on_where_it_was(tmp_path: Path) -> None:
    world = World(ranges(3_000), Patience(away_seconds=10))
    assert fetch(world, tmp_path / "new", done()) == [tmp_path / "new" / "vocals.wav"]
    assert (tmp_path / "new" / "vocals.wav").read_bytes() == SOUND
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["vocals.wav"]
    assert [r.headers.get("Range") for r in world.requests] == [None, *(f"bytes={n}000-" for n in (3, 6, 9))]
    assert world.requests[1].headers["If-Range"] == '"tag"'


def test_what_a_client_that_died_had_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    gives_up = World(script(ranges(3_000)(get("x")), *[refused()] * 100), Patience(away_seconds=1))
    with pytest.raises(errors.ServerUnreachable):
        fetch(gives_up, tmp_path, done())
    (part,) = tmp_path.iterdir()
    assert part.name.startswith(".vocals.wav.") and part.stat().st_size == 3_000
    world = World(ranges(10_000))
    fetch(world, tmp_path, done())
    assert [r.headers.get("Range") for r in world.requests] == ["bytes=3000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["vocals.wav"]
    assert (tmp_path / "vocals.wav").read_bytes() == SOUND
    fetch(again := World(script()), tmp_path, done())
    assert again.requests == []


def test_other_bytes_than_the_task_says_are_never_given_the_name(tmp_path: Path) -> None:
    world = World(ranges(99_999, b"x" * len(SOUND)))
    with pytest.raises(errors.DownloadDamaged, match=r"vocals\.wav arrived 2 times"):
        fetch(world, tmp_path, done())
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_knows_no_ranges_sends_it_from_the_beginning(tmp_path: Path) -> None:
    whole = Body([SOUND], 200)
    world = World(script(ranges(3_000)(get("x")), whole))
    fetch(world, tmp_path, done())
    assert (tmp_path / "vocals.wav").read_bytes() == SOUND


def test_a_refused_range_begins_anew(tmp_path: Path) -> None:
    world = World(script(ranges(3_000)(get("x")), problem(416, "not_in_range"), Body([SOUND])))
    fetch(world, tmp_path, done())
    assert (tmp_path / "vocals.wav").read_bytes() == SOUND


def test_another_format_is_asked_for_and_checked_by_the_tag(tmp_path: Path) -> None:
    world = World(script(Body([b"mp3"], headers={"etag": f'"{hashlib.sha256(b"mp3").hexdigest()}"'})))
    assert fetch(world, tmp_path, done(), format="mp3") == [tmp_path / "vocals.mp3"]
    assert world.requests[0].query == {"format": "mp3"}
    bad = World(lambda request: Body([b"mp?"], headers={"etag": f'"{hashlib.sha256(b"mp3").hexdigest()}"'}))
    with pytest.raises(errors.DownloadDamaged):
        fetch(bad, tmp_path / "bad", done(), format="mp3")


def test_what_cannot_be_downloaded_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    world = World(script())
    with pytest.raises(errors.InvalidOption, match="this task has vocals"):
        fetch(world, tmp_path, done(), stems=["guitar"])
    with pytest.raises(errors.IllegalTransition, match="is running: it cannot be downloaded"):
        fetch(world, tmp_path, TaskBody.model_validate(task("running")))
    with pytest.raises(errors.NotOurServer):
        fetch(world, tmp_path, done(name="../evil"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.OutputNotWritable, match="file"):
        fetch(World(ranges(99_999)), tmp_path / "file", done())


def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / f".vocals.wav.{SHA256[:16]}.part").symlink_to(tmp_path / "victim")
    with pytest.raises(errors.OutputNotWritable):
        fetch(World(ranges(99_999)), tmp_path, done())
    assert (tmp_path / "victim").read_text() == "precious"
