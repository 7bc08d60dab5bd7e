"""`tasks`: the tasks of a running server, newest first."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from demucs_server_worker.cli import remote, words
from demucs_server_worker.cli.exits import DONE
from demucs_server_worker.cli.remote import JsonFlag, UrlFlag

if TYPE_CHECKING:
    from demucs_server_worker.wire.task import TaskBody

EPILOG = f"""\
[bold]Examples[/bold]

What failed, and why: [cyan]demucs-server-worker tasks --state failed[/cyan]

All, for a program: [cyan]demucs-server-worker tasks --limit 0 --json[/cyan]

In a pipe, each task is one line of id, state, progress, priority, name, project and error, with tabs between them.

{remote.KEY_NOTE}
"""

STATE_STYLES = {"queued": "dim", "running": "cyan", "completed": "green", "failed": "red", "cancelled": "yellow"}


def tasks(
    state: Annotated[Literal["queued", "running", "completed", "failed", "cancelled"] | None, typer.Option(
        help="Only tasks in this state.")] = None,
    limit: Annotated[int, typer.Option(
        min=0, metavar="N", help="The newest N; 0 for all.")] = 50,
    url: UrlFlag = None,
    as_json: JsonFlag = False,
) -> int:  # fmt: skip
    """List the tasks of a running server, newest first."""

    def work() -> int:
        with remote.connected(url) as client:
            found = client.tasks(state, limit=limit or None)
            if as_json:
                remote.write_tasks(found)
            elif sys.stdout.isatty():
                _print_table(list(found))
            else:
                for task in found:
                    sys.stdout.write("\t".join(_cells(task)) + "\n")
        return DONE

    return remote.reported(work)


def _cells(task: TaskBody) -> list[str]:
    cells = [
        task.id, task.state.value, f"{task.progress:.0%}", task.priority.value, task.input_name,
        task.project_name or "", task.error.code if task.error else "",
    ]  # fmt: skip
    return [words.printable(cell) for cell in cells]


def _print_table(found: list[TaskBody]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not found:
        console.print(Text("no tasks", style="dim"))
        return
    shown = remote.short_ids(task.id for task in found)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title, ratio in (("id", None), ("state", None), ("", None), ("song", 3), ("project", 2)):
        table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=ratio)
    table.add_column("length", justify="right", no_wrap=True)
    table.add_column("added", justify="right", no_wrap=True)
    for task in found:
        state = Text(task.state.value, style=STATE_STYLES[task.state.value])
        length = "–" if task.duration_seconds is None else words.clock(task.duration_seconds)
        table.add_row(
            shown[task.id], state, Text(standing(task)), Text(words.printable(task.input_name)),
            Text(words.printable(task.project_name or "")), length, _age(task.created_at),
        )  # fmt: skip
    console.print(table)


def standing(task: TaskBody) -> str:
    """What there is to say of a task beside its state, in a few words."""
    match task.state.value:
        case "queued":
            place = "" if task.queue_position is None else f"number {task.queue_position}"
            retried = "" if task.attempt == 1 else f"attempt {task.attempt}"
            urgent = "" if task.priority.value == "normal" else task.priority.value
            return ", ".join(part for part in (place, urgent, retried) if part)
        case "running":
            left = "" if task.eta_seconds is None else f", {words.clock(task.eta_seconds)} left"
            return f"{words.STAGE_WORDS[task.stage]} {task.progress:.0%}{left}"
        case "failed":
            return words.printable(task.error.code) if task.error is not None else ""
        case "completed":
            return "at once" if task.cached else f"{len(task.stems)} stems"
    return ""


def _age(when: datetime | None) -> str:
    if when is None:
        return "–"
    seconds = (datetime.now(UTC) - when).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
