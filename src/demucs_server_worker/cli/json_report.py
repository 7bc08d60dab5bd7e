"""A batch told to programs: one JSON object a line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from demucs_server_worker.cli.batch import Entry, Result, Standing
from demucs_server_worker.cli.plain_report import QuietReport
from demucs_server_worker.events import EventKind
from demucs_server_worker.task import Stage
from demucs_server_worker.wire.problem import error_body

PROGRESS_SECONDS = 0.5
"""The progress of one song is told at most this often, but for a change of its stage."""


class JsonReport(QuietReport):
    """Writes an object for each event, with the fields of the task, and one that sums up.

    Failures are told in words too, where errors go.
    """

    def __init__(
        self, out: TextIO | None = None, errors: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: out: by default standard output; errors: by default standard error; clock: monotonic seconds."""
        super().__init__(errors)
        self._out = out or sys.stdout
        self._clock = clock
        self._told: dict[str, tuple[Stage, float]] = {}

    def changed(self, entry: Entry, kind: EventKind) -> None:
        """One object, with `event` and the task's fields; a song that never became a task has but its names."""
        super().changed(entry, kind)
        if kind is EventKind.PROGRESS and not self._is_time_for(entry):
            return
        write_line(self._out, {"event": kind.value, "inputPath": str(entry.song.path), **_fields(entry)})

    def end(self, result: Result) -> None:
        """The object `summary`."""
        completed, failed = result.count(Standing.COMPLETED), result.count(Standing.FAILED)
        audio, seconds = result.audio_seconds, result.seconds
        write_line(self._out, {
            "event": "summary",
            "files": len(result.entries),
            "completed": completed,
            "failed": failed,
            "cancelled": len(result.entries) - completed - failed,
            "interrupted": result.interrupted,
            "audioSeconds": round(audio, 3),
            "seconds": round(seconds, 3),
            "timesRealTime": round(audio / seconds, 3) if seconds else None,
        })  # fmt: skip

    def _is_time_for(self, entry: Entry) -> bool:
        name, now = str(entry.song.path), self._clock()
        stage, told = self._told.get(name, (None, now))
        if stage is entry.stage and now - told < PROGRESS_SECONDS:
            return False
        self._told[name] = (entry.stage, now)
        return True


def write_line(out: TextIO, fields: Mapping[str, Any]) -> None:
    """Write one object as one line. Not a letter of it can act on a terminal."""
    out.write(json.dumps(fields) + "\n")
    out.flush()


def _fields(entry: Entry) -> dict[str, Any]:
    error = error_body(entry.error)
    told = None if error is None else error.model_dump(mode="json")
    fields = entry.task_fields
    if fields is None:
        return {"inputName": entry.song.input_name, "state": entry.standing.value, "stems": [], "error": told}
    if entry.seconds is not None:
        fields["seconds"] = round(entry.seconds, 3)
    if entry.error is not None:
        fields["error"] = told
    if entry.standing is Standing.FAILED:
        fields["state"] = entry.standing.value
    return fields
