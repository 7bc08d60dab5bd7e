"""A batch told in plain lines: for pipes, files and logs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self, TextIO

from demucs_server_worker.cli import words
from demucs_server_worker.cli.batch import Entry, Result, Standing
from demucs_server_worker.events import EventKind


class QuietReport:
    """Tells of nothing but failures."""

    def __init__(self, errors: TextIO | None = None) -> None:
        """Args: errors: where failures are told; by default standard error."""
        self._errors = errors or sys.stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def begin(self, entries: Sequence[Entry]) -> None:
        """Nothing."""

    def changed(self, entry: Entry, kind: EventKind) -> None:
        """A failure is one line, and so is each attempt that failed before."""
        if kind in (EventKind.FAILED, EventKind.RETRYING) and entry.error is not None:
            verb = "failed" if kind is EventKind.FAILED else "trying again"
            name = words.printable(entry.song.shown)
            self._warn(f"{verb}: {name}: {words.printable(entry.error.message)} [{entry.error.code}]")

    def stopping(self) -> None:
        """One line."""
        self._warn("stopping: songs not done yet are cancelled; once more to stop at once")

    def end(self, result: Result) -> None:
        """Nothing."""

    def _warn(self, line: str) -> None:
        self._errors.write(line + "\n")
        self._errors.flush()


class PlainReport(QuietReport):
    """Tells of each song when it starts and when it is done, and sums up."""

    def __init__(self, out: TextIO | None = None, errors: TextIO | None = None) -> None:
        """Args: out: where the lines go, by default standard output; errors: where failures go."""
        super().__init__(errors)
        self._out = out or sys.stdout

    def changed(self, entry: Entry, kind: EventKind) -> None:
        """One line for a start, one for an end."""
        super().changed(entry, kind)
        if kind is EventKind.STARTED:
            self._say(f"separating: {words.printable(entry.song.shown)}")
        elif kind is EventKind.COMPLETED:
            self._say(f"done: {words.printable(entry.song.shown)}: {figures(entry)} → {place(entry)}")

    def end(self, result: Result) -> None:
        """One line that sums up."""
        self._say(summary(result))

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


def figures(entry: Entry) -> str:
    """`3:12 in 61.9 s, 3.1× real time`; `3:12 at once` where the stems of an earlier task were taken."""
    audio, seconds = entry.audio_seconds or 0.0, entry.seconds or 0.0
    if entry.at_once:
        return f"{words.clock(audio)} at once"
    return f"{words.clock(audio)} in {words.taken(seconds)}, {words.pace(audio, seconds)} real time"


def place(entry: Entry) -> str:
    """Where the stems of a song are; a dash where there are none."""
    return words.near(entry.folder) if entry.folder is not None else "–"


def summary(result: Result) -> str:
    """What was done, in one line."""
    completed, failed = result.count(Standing.COMPLETED), result.count(Standing.FAILED)
    stopped = len(result.entries) - completed - failed
    parts = [f"{completed} of {words.files(len(result.entries))} done"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{stopped} {result.unfinished}"] if stopped else []
    line = ", ".join(parts)
    if completed:
        audio = result.audio_seconds
        line += f": {words.clock(audio)} of audio in {words.taken(result.seconds)}"
        line += f", {words.pace(audio, result.seconds)} real time"
    return line
