"""Why workers die and tasks fail: memory, the size of files, and what the queue remembers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from demucs_server_worker.doctor.check import Check, Trouble, failed, fine, gigabytes, warned
from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.machine import basics
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.settings import Settings
from demucs_server_worker.task import Task, TaskState

# So many of the newest failures are looked at, and so many named.
LOOKED_AT = 100
NAMED = 3
# Errors that mean a worker was lost, and not that its song is bad.
LOST_WORKER = frozenset({"worker_crashed", "out_of_memory", "worker_hung", "timed_out"})

_MENDS = {
    "out_of_memory": "Lower MAX_WORKERS, give tasks a shorter segment, or add memory.",
    "worker_crashed": "Read the log around those times: journalctl -u demucs-server-worker, or where stderr goes.",
    "worker_hung": "See whether the machine swaps or the GPU's driver hangs; raise DEMUCS_WORKER_STALL_TIMEOUT if not.",
    "timed_out": "Raise TASK_TIMEOUT (milliseconds), or use a faster model.",
}
_HERE = Trouble.CRASHES


def check_memory(settings: Settings, workers: int, bytes_a_worker: int, memory: basics.Memory) -> Check:
    """All workers fit into memory at once.

    Args:
        settings: the model.
        workers: at once.
        bytes_a_worker: that one takes for the default model.
        memory: of the machine.
    """
    wanted = workers * bytes_a_worker
    found = (
        f"{workers} × {gigabytes(bytes_a_worker)} for {settings.model}, of {gigabytes(memory.total)}, of which "
        f"{gigabytes(memory.available)} can be had now"
    )
    fitting = max(1, int(memory.total // bytes_a_worker))
    if bytes_a_worker > memory.total:
        return failed(_HERE, "memory", found, "Add memory, use a shorter segment, or the model htdemucs.")
    if wanted > memory.total:
        return failed(_HERE, "memory", found, f"Lower MAX_WORKERS to {fitting}, or set it to auto.")
    if wanted > memory.available:
        return warned(_HERE, "memory", found, "End other programs, or lower MAX_WORKERS. A running server counts too.")
    return fine(_HERE, "memory", found)


def check_logs(settings: Settings) -> Check:
    """Where a worker's last words are."""
    where = "the server's standard error; under systemd: journalctl -u demucs-server-worker"
    return fine(_HERE, "logs", f"{where}; LOG_LEVEL is {settings.log_level}")


def check_sizes(settings: Settings) -> Check:
    """What files are taken at all."""
    size = f"{settings.max_file_size / 1e6:g} MB"
    hours = f"{settings.max_duration / 3600:g} h"
    limit = f"{settings.task_timeout_seconds / 60:g} min"
    return fine(_HERE, "limits of a task", f"files up to {size}, songs up to {hours}, {limit} an attempt")


def default_options(settings: Settings) -> SeparationOptions:
    """The options of a task that names none."""
    return SeparationOptions.parse({"model": settings.model})


def check_queue(folder: Path) -> Iterator[Check]:
    """The queue can be read; and what failed lately in it."""
    path = folder / "queue.db"
    if not path.exists():
        yield fine(_HERE, "queue", "there is none yet")
        return
    try:
        with TaskReader(path) as reader:
            counts = reader.counts()
            failures = reader.page(TaskState.FAILED, limit=LOOKED_AT).tasks
    except DemucsWorkerError as error:
        yield failed(_HERE, "queue", error.message, "The sentence says what to do; docs/operations.md tells more.")
        return
    yield fine(
        _HERE, "queue", f"{counts.queued} queued, {counts.running} running, {counts.completed} completed, "
        f"{counts.failed} failed, {counts.cancelled} cancelled",
    )  # fmt: skip
    yield _check_failures(failures)


def _check_failures(failures: tuple[Task, ...]) -> Check:
    """What the last failures were: of workers, or of songs."""
    codes = Counter(task.error.code for task in failures if task.error is not None)
    if not codes:
        return fine(_HERE, "failures", "no failed task")
    named = "; ".join(_words(task) for task in failures[:NAMED])
    found = f"{', '.join(f'{count} × {code}' for code, count in codes.most_common())}. The last: {named}"
    lost = [code for code, _ in codes.most_common() if code in LOST_WORKER]
    if not lost:
        return fine(_HERE, "failures", f"{found}. The songs are to blame, not the workers")
    return warned(_HERE, "failures", found, " ".join(_MENDS[code] for code in lost))


def _words(task: Task) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(task.finished_at)) if task.finished_at else "?"
    message = task.error.message if task.error is not None else "?"
    return f"{when} {task.request.input_name}: {message}"
