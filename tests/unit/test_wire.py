"""What crosses the wire: names, times, paths that stay behind, and what is taken in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from demucs_server_worker.errors import InputUnreadable, OutputNotWritable
from demucs_server_worker.events import Event, EventKind
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.task import Origin, Stem, Task, TaskRequest, TaskState, Webhook
from demucs_server_worker.wire.event import event_body
from demucs_server_worker.wire.options import OptionsBody
from demucs_server_worker.wire.problem import Problem
from demucs_server_worker.wire.redaction import without_paths
from demucs_server_worker.wire.status import status_body
from demucs_server_worker.wire.submission import Submission, TaskForm
from demucs_server_worker.wire.task import TaskBody, task_body

STEM = Stem(
    name="vocals", path="/srv/out/vocals.wav", format="wav", sample_rate=44_100, channels=2, duration_seconds=3.0,
    bytes=10, sha256="ab", peak=0.5,
)  # fmt: skip


def task(origin: Origin = Origin.PATH, **fields: Any) -> Task:
    request = TaskRequest(
        input_path="/srv/data/uploads/x1/song", output_dir="/srv/out", input_name="song.mp3", origin=origin,
        file_id="file123", webhook=Webhook(url="https://hooks.example/a"),
    )  # fmt: skip
    return Task(id="t1", request=request, created_at=1_700_000_000.0, stems=(STEM,), **fields)


def test_a_task_is_written_with_the_names_of_the_contract() -> None:
    told = task_body(task(state=TaskState.COMPLETED, cached=True), remote=True).model_dump(mode="json")
    assert list(told) == [
        "id", "fileId", "projectName", "priority", "state", "attempt", "maxAttempts", "progress", "stage",
        "queuePosition", "etaSeconds", "createdAt", "startedAt", "finishedAt", "inputName", "durationSeconds",
        "options", "stems", "error", "cached", "webhook",
    ]  # fmt: skip
    assert told["createdAt"] == "2023-11-14T22:13:20.000Z" and told["startedAt"] is None
    assert told["cached"] is True and told["webhook"]["url"] == "https://hooks.example/a"
    assert list(told["stems"][0]) == [
        "name", "path", "url", "format", "sampleRate", "channels", "durationSeconds", "bytes", "sha256", "peak",
    ]  # fmt: skip


def test_an_http_client_reads_a_task_back_as_it_was() -> None:
    body = task_body(task(progress=0.5), eta_seconds=12.34, queue_position=3, remote=True)
    assert TaskBody.model_validate_json(body.model_dump_json()) == body
    assert (body.eta_seconds, body.queue_position) == (12.3, 3)


def test_a_reader_ignores_fields_that_a_newer_server_adds() -> None:
    told = task_body(task()).model_dump(mode="json")
    assert TaskBody.model_validate({**told, "invented": 1}).id == "t1"


def test_options_have_the_same_fields_and_defaults_as_in_python() -> None:
    assert list(OptionsBody.model_fields) == list(SeparationOptions.__struct_fields__)
    assert OptionsBody().model_dump(by_alias=False, mode="json") == msgspec.to_builtins(SeparationOptions())
    mine = set(TaskForm.model_fields) - {"file_id", "project_name", "input_name", "priority", "webhook"}
    assert mine == set(SeparationOptions.__struct_fields__)


@pytest.mark.parametrize(
    ("origin", "remote", "path"),
    [(Origin.PATH, True, True), (Origin.UPLOAD, True, False), (Origin.WATCH, True, False),
     (Origin.UPLOAD, False, True)],
)  # fmt: skip
def test_paths_are_told_to_those_who_named_them(origin: Origin, remote: bool, path: bool) -> None:
    (stem,) = task_body(task(origin), remote=remote).stems
    assert (stem.path == STEM.path) is path
    assert stem.url == ("/api/v1/tasks/t1/stems/vocals" if remote else None)


def test_the_error_of_an_upload_names_the_song_and_no_path_of_the_server() -> None:
    error = InputUnreadable("/srv/data/uploads/x1/song cannot be read, see /var/log/x.log.").info
    failed = task(Origin.UPLOAD, state=TaskState.FAILED, error=error)
    told = task_body(failed, remote=True)
    assert told.error is not None
    assert told.error.message == "song.mp3 cannot be read, see …/x.log."
    heard = event_body(Event(kind=EventKind.FAILED, seq=1, at=1.0, task_id="t1", task=failed, error=error))
    assert "/srv" not in heard.model_dump_json() and "/var" not in heard.model_dump_json()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("There is no file /home/ann/My-Songs/a.wav. Check it.", "There is no file …/a.wav. Check it."),
        ("'/srv/x' cannot be written: read-only", "'…/x' cannot be written: read-only"),
        ("(/a/b/c) and /d", "(…/c) and …/d"),
        ("either/or, 1/2, and https://example.org/a/b stay", "either/or, 1/2, and https://example.org/a/b stay"),
        ("nothing at /api/v1/x.", "nothing at /api/v1/x."),
    ],
)
def test_paths_are_cut_to_their_last_part(message: str, shown: str) -> None:
    assert without_paths(message, named=("/api/v1/x",)) == shown


def test_problems_of_the_servers_health_name_no_path() -> None:
    status: dict[str, Any] = {
        "version": "1", "uptime_seconds": 1.0, "accepting": True,
        "queue": {"queued": 0, "running": 0, "by_priority": {"high": 0, "normal": 0, "low": 0}},
        "totals": {"completed": 0, "failed": 0, "cancelled": 0, "retried": 0}, "workers": [],
        "machine": {"cpu_percent": None, "memory_total_bytes": 1, "memory_available_bytes": 1, "disk_free_bytes": 1,
                    "gpus": []},
        "health": {"ok": False, "problems": ["The disk of /srv/data is full."]},
    }  # fmt: skip
    told = status_body(status).model_dump(mode="json")
    assert told["health"] == {"ok": False, "problems": ["The disk of …/data is full."]}
    assert told["queue"]["byPriority"] == {"high": 0, "normal": 0, "low": 0} and told["uptimeSeconds"] == 1.0


@pytest.mark.parametrize(
    "fields",
    [
        {"inputPath": "/a.wav", "outputDir": "/out", "fileId": "f", "twoStems": "vocals", "bitDepth": 24},
        {"input_path": "/a.wav", "output_dir": "/out", "file_id": "f", "two_stems": "vocals", "bit_depth": 24},
    ],
)
def test_a_submission_is_taken_in_either_case(fields: dict[str, Any]) -> None:
    given = Submission.model_validate(fields).given()
    assert given == {
        "input_path": "/a.wav", "output_dir": "/out", "file_id": "f", "two_stems": "vocals", "bit_depth": 24
    }  # fmt: skip
    assert TaskRequest.parse(given).options.bit_depth == "24"


@pytest.mark.parametrize(
    ("field", "value"),
    [("shifts", "2"), ("shifts", True), ("overlap", 1.0), ("format", "aiff"), ("invented", 1), ("stems", []),
     ("priority", "urgent"), ("fileId", ""), ("sampleRate", 1), ("device", "toaster"), ("webhook", 7)],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Submission.model_validate({"inputPath": "/a.wav", "outputDir": "/out", field: value})
    assert refused.value.errors()[0]["loc"][0] == field


def test_a_problem_gives_back_the_error_that_the_server_met() -> None:
    error = OutputNotWritable(path="/out", detail="it is read-only").info
    problem = Problem(title="x", status=422, detail=error.message, code=error.code, retryable=error.retryable)
    assert problem.error == error
