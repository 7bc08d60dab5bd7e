"""The state of a server in words and as a screen's content. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demucs_server_worker.cli import words
from demucs_server_worker.wire.status import MachineBody, StatusBody, WorkerBody
from demucs_server_worker.wire.task import TaskBody

NEXT_SHOWN = 5

_BAR_COLUMNS = 18
_SHORT_BAR_COLUMNS = 8
# On a terminal narrower than this, songs matter more than figures.
_WIDE_COLUMNS = 90
# Title, heading of the workers, the five figures, the last line, and what stands empty between them.
_OTHER_LINES = 12
_LOST_LINES = 4
_LEAST_WORKERS = 2

_STATE_STYLES = {"idle": "green", "busy": "cyan", "starting": "yellow", "stopping": "yellow", "dead": "red"}


@dataclass(frozen=True)
class Snapshot:
    """What is known of a server.

    Attributes:
        url: its address.
        status: as it last told; None before it told anything.
        running: tasks at work, by id.
        waiting: the next to start, in their order, where they are few enough to be asked for.
        lost: why there is no answer at the moment; None while there is one.
        lost_seconds: for how long.
    """

    url: str
    status: StatusBody | None = None
    running: Mapping[str, TaskBody] = field(default_factory=dict)
    waiting: Sequence[TaskBody] = ()
    lost: str | None = None
    lost_seconds: float = 0.0


# --- in words --------------------------------------------------------------------------------------------------------


def plain(url: str, status: StatusBody, running: Sequence[TaskBody]) -> str:
    """The status as lines of text."""
    by_id = {task.id: task for task in running}
    lines = [
        f"demucs-server-worker {words.printable(status.version)} at {url}, up {words.clock(status.uptime_seconds)}",
        *(
            f"{_health_word(status):9} {words.printable(problem)}"
            for problem in status.health.problems or ("all well",)
        ),
        f"{'queue':9} {_queue_words(status)}",
        f"{'so far':9} {_totals_words(status)}",
        f"{'machine':9} {_machine_words(status.machine)}",
        *(f"{words.printable(worker.id):9} {_worker_words(worker, by_id)}" for worker in status.workers),
    ]
    return "\n".join(lines)


def _health_word(status: StatusBody) -> str:
    return "health" if status.health.ok else "problem"


def _queue_words(status: StatusBody) -> str:
    queue = status.queue
    counts = queue.by_priority
    text = f"{queue.queued} waiting ({counts.high} high, {counts.normal} normal, {counts.low} low)"
    closed = "" if status.accepting else "; no new tasks are taken"
    return f"{text}, {queue.running} at work{closed}"


def _totals_words(status: StatusBody) -> str:
    totals = status.totals
    return (
        f"{totals.completed} completed, {totals.failed} failed, {totals.cancelled} cancelled, "
        f"{totals.retried} tried again"
    )


def _machine_words(machine: MachineBody) -> str:
    parts = [f"cpu {_percent(machine.cpu_percent)}", f"memory {_memory_words(machine)}"]
    parts += [f"disk {words.size(machine.disk_free_bytes)} free"]
    parts += [f"gpu {number} {_percent(gpu.utilization_percent)}" for number, gpu in enumerate(machine.gpus)]
    return ", ".join(parts)


def _memory_words(machine: MachineBody) -> str:
    if machine.memory_total_bytes is None or machine.memory_available_bytes is None:
        return "–"
    return f"{words.size(machine.memory_available_bytes)} of {words.size(machine.memory_total_bytes)} free"


def _percent(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.0f}%"


def _worker_words(worker: WorkerBody, running: Mapping[str, TaskBody]) -> str:
    figures = f"cpu {_percent(worker.cpu_percent)}, {words.size(worker.rss_bytes)}, {worker.tasks_done} done"
    figures += f", {worker.restarts} restarts" if worker.restarts else ""
    task = running.get(worker.task_id or "")
    if task is None:
        return f"{worker.state}, {figures}"
    return f"{worker.state} {_task_words(task)}, {figures}: {words.printable(task.input_name)}"


def _task_words(task: TaskBody) -> str:
    left = "" if task.eta_seconds is None else f", {words.clock(task.eta_seconds)} left"
    return f"{words.STAGE_WORDS[task.stage]} {task.progress:.0%}{left}"


# --- as a screen -----------------------------------------------------------------------------------------------------


def screen(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """The whole screen.

    Args:
        snapshot: what is known.
        width, height: columns and lines there are.
    """
    parts: list[RenderableType] = [_title(snapshot), Text()]
    if snapshot.lost is not None:
        parts += [Padding(_lost(snapshot), (0, 1)), Text()]
    if snapshot.status is not None:
        room = height - (_LOST_LINES if snapshot.lost is not None else 0)
        parts += [Padding(part, (0, 1)) for part in _body(snapshot, snapshot.status, width, room)]
    parts += [Text(), Text(" q leaves", style="dim")]
    return Group(*parts)


def _title(snapshot: Snapshot) -> RenderableType:
    left = Text.assemble((" demucs-server-worker", "bold"), f"  {snapshot.url}", no_wrap=True, overflow="ellipsis")
    status = snapshot.status
    if status is not None:
        left.append(f"  {words.printable(status.version)}, up {words.clock(status.uptime_seconds)}", style="dim")
    if snapshot.lost is not None:
        right = Text("away ", style="bold red")
    elif status is None:
        right = Text("asking ", style="dim")
    elif not status.accepting:
        right = Text("stopping ", style="bold yellow")
    else:
        right = Text("well ", style="bold green") if status.health.ok else Text("in trouble ", style="bold red")
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid


def _lost(snapshot: Snapshot) -> RenderableType:
    text = Text(words.printable(snapshot.lost or ""), style="red")
    since = f" Asking again since {words.clock(snapshot.lost_seconds)}."
    return text.append(since + (" Below is what it said last." if snapshot.status else ""), style="yellow")


def _body(snapshot: Snapshot, status: StatusBody, width: int, height: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(problem, style="red") for problem in _problems(status)]
    parts += [Text()] if parts else []
    left = height - _OTHER_LINES - len(parts) - len(status.machine.gpus)
    workers = max(_LEAST_WORKERS, left)
    table = _workers(status.workers, snapshot.running, wide=width >= _WIDE_COLUMNS, room=workers)
    parts += [table, Text(), _figures(status)]
    # A heading, and a line for those that are not named, and an empty one.
    named = left - min(len(status.workers), workers) - 3
    if snapshot.waiting and named > 0:
        parts += [Text(), _waiting(snapshot.waiting[:named], status.queue.queued)]
    return parts


def _problems(status: StatusBody) -> list[str]:
    return [f"! {words.printable(problem)}" for problem in status.health.problems]


def _workers(
    workers: Sequence[WorkerBody], running: Mapping[str, TaskBody], *, wide: bool, room: int
) -> RenderableType:  # fmt: skip
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("worker", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("cpu", justify="right", no_wrap=True, min_width=4)
    table.add_column("memory", justify="right", no_wrap=True, min_width=8)
    if wide:
        table.add_column("done", justify="right", no_wrap=True)
    table.add_column("", width=_BAR_COLUMNS if wide else _SHORT_BAR_COLUMNS)
    table.add_column("", justify="right", no_wrap=True, min_width=4)
    table.add_column("song", no_wrap=True, overflow="ellipsis", ratio=1)
    # Where there are more workers than lines, those that do something are the ones to look at.
    few = sorted(workers, key=lambda worker: worker.state == "idle")[: room - 1]
    shown = few if len(workers) > room else workers
    for worker in shown:
        table.add_row(*_worker_row(worker, running.get(worker.task_id or ""), wide=wide))
    if len(shown) < len(workers):
        table.add_row(Text(f"{len(workers) - len(shown)} more", style="dim"))
    return table


def _worker_row(worker: WorkerBody, task: TaskBody | None, *, wide: bool) -> list[RenderableType]:
    state = Text(worker.state, style=_STATE_STYLES.get(worker.state, ""))
    cells: list[RenderableType] = [
        Text(words.printable(worker.id)), state, Text(_percent(worker.cpu_percent)), Text(words.size(worker.rss_bytes)),
    ]  # fmt: skip
    if wide:
        restarts = f" ({worker.restarts} restarts)" if worker.restarts else ""
        cells.append(Text(f"{worker.tasks_done}{restarts}"))
    if worker.task_id is None:
        return [*cells, Text(), Text(), Text()]
    progress = worker.progress if task is None else max(task.progress, worker.progress)
    bar = ProgressBar(total=1.0, completed=progress, width=_BAR_COLUMNS if wide else _SHORT_BAR_COLUMNS)
    song = Text() if task is None else _song(task)
    return [*cells, bar, Text(f"{progress:.0%}"), song]


def _song(task: TaskBody) -> Text:
    left = "" if task.eta_seconds is None else f", {words.clock(task.eta_seconds)} left"
    # The name last: of what does not fit, it is the part to miss.
    return Text(f"{words.STAGE_WORDS[task.stage]}{left}  ", style="dim").append(
        words.printable(task.input_name), style="not dim"
    )


def _figures(status: StatusBody) -> RenderableType:
    machine, counts = status.machine, status.queue.by_priority
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    waiting = Text.assemble(
        (f"{counts.high} high", "bold" if counts.high else "dim"), "  ",
        (f"{counts.normal} normal", "bold" if counts.normal else "dim"), "  ",
        (f"{counts.low} low", "bold" if counts.low else "dim"), f"  {status.queue.running} at work",
    )  # fmt: skip
    if not status.accepting:
        waiting.append("  no new tasks are taken", style="yellow")
    grid.add_row("queue", waiting)
    grid.add_row("so far", _totals(status))
    grid.add_row("cpu", _load(machine.cpu_percent, _percent(machine.cpu_percent)))
    grid.add_row("memory", _load(_used_percent(machine), _memory_words(machine)))
    grid.add_row("disk", Text(f"{words.size(machine.disk_free_bytes)} free"))
    for number, gpu in enumerate(machine.gpus):
        used = f"{_percent(gpu.utilization_percent)}  {words.size(gpu.memory_used_bytes)} of "
        used += f"{words.size(gpu.memory_total_bytes)} in use  {words.printable(gpu.name)}"
        grid.add_row(f"gpu {number}", _load(gpu.utilization_percent, used))
    return grid


def _totals(status: StatusBody) -> Text:
    totals = status.totals
    text = Text.assemble((f"{totals.completed} completed", "green" if totals.completed else "dim"))
    text.append(f"  {totals.failed} failed", style="red" if totals.failed else "dim")
    text.append(f"  {totals.cancelled} cancelled", style="yellow" if totals.cancelled else "dim")
    return text.append(f"  {totals.retried} tried again", style="yellow" if totals.retried else "dim")


def _load(percent: float | None, text: str) -> RenderableType:
    if percent is None:
        return Text(text)
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=100.0, completed=min(percent, 100.0), width=_BAR_COLUMNS), Text(text))
    return row


def _used_percent(machine: MachineBody) -> float | None:
    if not machine.memory_total_bytes or machine.memory_available_bytes is None:
        return None
    return 100.0 * (1 - machine.memory_available_bytes / machine.memory_total_bytes)


def _waiting(tasks: Sequence[TaskBody], queued: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(style="dim", no_wrap=True)
    grid.add_row("next", "", "")
    for number, task in enumerate(tasks, 1):
        length = "" if task.duration_seconds is None else words.clock(task.duration_seconds)
        note = "" if task.priority.value == "normal" else task.priority.value
        grid.add_row(str(number), Text(words.printable(task.input_name)), f"{length}  {note}".strip())
    if queued > len(tasks):
        grid.add_row("", Text(f"and {queued - len(tasks)} more", style="dim"), "")
    return grid
