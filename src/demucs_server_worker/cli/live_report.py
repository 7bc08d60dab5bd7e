"""A batch told on a terminal: a line a song that moves, and a table at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demucs_server_worker.cli import words
from demucs_server_worker.cli.batch import Entry, Result, Standing
from demucs_server_worker.cli.plain_report import place, summary
from demucs_server_worker.events import EventKind

# Past this many songs, or where the terminal is too low for all of them, only those at work have a line.
MAX_LINES = 40
_OTHER_LINES = 3

_NAME_COLUMNS = 40
_BAR_COLUMNS = 24
_REFRESHES_PER_SECOND = 8


class LiveReport:
    """Shows each song with its stage, a bar, the percentage and the time left; then a table of results."""

    def __init__(self, console: Console | None = None) -> None:
        """Args: console: a terminal; by default the one behind standard output."""
        self._console = console or Console(highlight=False)
        self._entries: Sequence[Entry] = ()
        self._stopping = False
        self._live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True, redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    @property
    def log_stream(self) -> TextIO:
        """Where other parts of the program may write without garbling the display: above it, if it is this terminal."""
        if sys.stderr.isatty():
            return cast(TextIO, FileProxy(self._console, sys.stderr))
        return sys.stderr

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def begin(self, entries: Sequence[Entry]) -> None:
        """Their lines appear."""
        self._entries = entries

    def changed(self, entry: Entry, kind: EventKind) -> None:
        """The display looks at the entries by itself; an attempt that failed is told above it."""
        if kind is EventKind.RETRYING and entry.error is not None:
            name = words.printable(entry.song.shown)
            self._console.print(Text(f"trying again: {name}: {words.printable(entry.error.message)}", style="yellow"))

    def stopping(self) -> None:
        """The last line says so."""
        self._stopping = True

    def end(self, result: Result) -> None:
        """The display gives way to the table, the failures, and a line that sums up."""
        self._live.stop()
        if result.count(Standing.COMPLETED):
            self._console.print(results_table(result.entries, result.unfinished))
        errors = Console(stderr=True, highlight=False)
        for entry in result.entries:
            if entry.standing is Standing.FAILED and entry.error is not None:
                line = Text.assemble(("failed: ", "bold red"), words.printable(entry.song.shown), ": ")
                errors.print(line.append(f"{words.printable(entry.error.message)} [{entry.error.code}]"))
        self._console.print(Text(summary(result), style="bold"))

    # --- what the display shows ---------------------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(max_width=_NAME_COLUMNS, no_wrap=True, overflow="ellipsis")
        grid.add_column(min_width=10, no_wrap=True)
        grid.add_column(width=_BAR_COLUMNS)
        grid.add_column(justify="right", min_width=4)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        shown = self._shown()
        for entry in shown:
            grid.add_row(*_row(entry))
        if len(shown) < len(self._entries):
            grid.add_row(Text(self._counts(), style="dim"))
        if self._stopping:
            grid.add_row(Text("stopping … once more to stop at once", style="yellow"))
        return grid

    def _shown(self) -> Sequence[Entry]:
        room = min(MAX_LINES, self._console.size.height - _OTHER_LINES)
        if len(self._entries) <= room:
            return self._entries
        return [entry for entry in self._entries if entry.standing is Standing.RUNNING][: max(room, 1)]

    def _counts(self) -> str:
        counts = {standing: sum(entry.standing is standing for entry in self._entries) for standing in Standing}
        return "  ".join(f"{count} {_COUNT_WORDS[standing]}" for standing, count in counts.items() if count)


_COUNT_WORDS = {
    Standing.WAITING: "waiting",
    Standing.RUNNING: "at work",
    Standing.COMPLETED: "done",
    Standing.FAILED: "failed",
}


def _row(entry: Entry) -> tuple[RenderableType, ...]:
    name = Text(_end_of(words.printable(entry.song.shown)))
    match entry.standing:
        case Standing.COMPLETED:
            taken, pace = words.taken(entry.seconds or 0.0), words.pace(entry.audio_seconds, entry.seconds)
            result = "at once" if entry.at_once else f"{taken}, {pace} real time"
            return name, Text("done", "green"), _bar(1.0), Text("100%"), Text(result)
        case Standing.FAILED:
            return name, Text("failed", "red"), Text(), Text(), Text(entry.error.code if entry.error else "")
        case Standing.RUNNING:
            left = "" if entry.eta_seconds is None else f"{words.clock(entry.eta_seconds)} left"
            stage = Text(entry.busy_with, "cyan")
            return name, stage, _bar(entry.progress), Text(f"{entry.progress:.0%}"), Text(left)
        case Standing.WAITING:
            return name, Text("waiting", "dim"), Text(), Text(), Text()


def _end_of(path: str) -> str:
    """A path cut at its front, where folders stand, so that its line fits."""
    if cell_len(path) <= _NAME_COLUMNS:
        return path
    while cell_len(path) >= _NAME_COLUMNS:
        path = path[1:]
    return f"…{path}"


def _bar(part: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=part, width=_BAR_COLUMNS)


def results_table(entries: Sequence[Entry], unfinished: str = "cancelled") -> Table:
    """File, length, time taken, times real time, and where the stems are. Args: unfinished: as in `Result`."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("file", overflow="fold")
    for title in ("audio", "taken", "real time"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("stems", overflow="fold")
    for entry in entries:
        name = Text(words.printable(entry.song.shown))
        if entry.standing is Standing.COMPLETED:
            audio, seconds = entry.audio_seconds or 0.0, entry.seconds or 0.0
            table.add_row(
                name, words.clock(audio), words.taken(seconds), words.pace(audio, seconds), Text(place(entry))
            )  # fmt: skip
        else:
            word, style = ("failed", "red") if entry.standing is Standing.FAILED else (unfinished, "yellow")
            table.add_row(name, "–", "–", "–", Text(word, style))
    return table
