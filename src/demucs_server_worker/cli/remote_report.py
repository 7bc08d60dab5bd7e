"""How a batch on a server is told: as one on this machine, and for songs that are only handed over, in a line each."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from demucs_server_worker.cli import remote, words
from demucs_server_worker.cli.batch import Entry, Report, Result, Standing
from demucs_server_worker.cli.json_report import JsonReport, write_line
from demucs_server_worker.cli.live_report import LiveReport
from demucs_server_worker.cli.plain_report import PlainReport, QuietReport
from demucs_server_worker.cli.remote_batch import RemoteEntry
from demucs_server_worker.events import EventKind


def remote_report(*, wait: bool, as_json: bool, quiet: bool) -> Report:
    """The way to tell how a batch goes: for programs, for a terminal, or in plain lines."""
    if as_json:
        return JsonReport() if wait else JsonHandover()
    if quiet:
        return QuietReport()
    if not sys.stdout.isatty():
        return PlainReport() if wait else PlainHandover()
    return LiveReport() if wait else LiveHandover()


class JsonHandover(JsonReport):
    """An object for each task, and a summary."""

    def end(self, result: Result) -> None:
        """The object `summary`."""
        failed = result.count(Standing.FAILED)
        write_line(self._out, {
            "event": "summary", "files": len(result.entries), "queued": _queued(result), "failed": failed,
            "interrupted": result.interrupted, "seconds": round(result.seconds, 3),
        })  # fmt: skip


class PlainHandover(PlainReport):
    """A line for each task, and one that sums up."""

    def changed(self, entry: Entry, kind: EventKind) -> None:
        """It is queued, or it was refused."""
        if kind is EventKind.QUEUED:
            self._say(_line(entry))
        else:
            super().changed(entry, kind)

    def end(self, result: Result) -> None:
        """One line that sums up."""
        self._say(_summary(result))


class LiveHandover(LiveReport):
    """Bars while files are sent; above them a line for each task."""

    def __init__(self, console: Console | None = None) -> None:
        """Args: console: a terminal; by default the one behind standard output."""
        super().__init__(console)
        self._plain = QuietReport()

    def changed(self, entry: Entry, kind: EventKind) -> None:
        """A line above the bars."""
        if kind is EventKind.QUEUED:
            self._console.print(Text(_line(entry)))
        elif entry.error is not None:
            line = Text.assemble(("failed: ", "bold red"), words.printable(entry.song.shown), ": ")
            self._console.print(line.append(f"{words.printable(entry.error.message)} [{entry.error.code}]"))

    def end(self, result: Result) -> None:
        """The bars give way to a line that sums up."""
        self._live.stop()
        self._console.print(Text(_summary(result), style="bold"))


def _line(entry: Entry) -> str:
    body = entry.body if isinstance(entry, RemoteEntry) else None
    shown = "" if body is None else body.id[: remote.SHOWN_ID_LETTERS]
    note: Any = "" if body is None or body.queue_position is None else f", number {body.queue_position}"
    return f"queued: {words.printable(entry.song.shown)}: {words.printable(shown)}{note}"


def _queued(result: Result) -> int:
    return sum(isinstance(entry, RemoteEntry) and entry.body is not None for entry in result.entries)


def _summary(result: Result) -> str:
    failed = result.count(Standing.FAILED)
    line = f"{_queued(result)} of {words.files(len(result.entries))} queued"
    return line + (f", {failed} failed" if failed else "")
