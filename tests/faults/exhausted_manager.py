"""A manager in a process that runs out of file descriptors, or of processes, for a while. Run as a program.

Its arguments: what happens, and a folder. Prints its health, a JSON object a line: before, in the midst of it, and
after. Its log goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from demucs_server_worker.events import EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.task import TaskState
from tests.managers import add, manager, run, until
from tests.pool_conformance import eventually


def main(what: str, folder: Path) -> None:
    match what:
        case "worker-without-files":
            run(worker_dies(folder, no_files))
        case "worker-without-processes":
            run(worker_dies(folder, no_processes))
        case "task-without-files":
            run(task_comes(folder))


async def task_comes(folder: Path) -> None:
    """The worker lives, and a task comes."""
    async with manager(folder, sample_seconds=0.02, retry_delay=0.05, max_attempts=20) as m:
        await m.wait((await add(m, folder, "succeed")).id)
        tell(m)
        with no_files():
            task = await add(m, folder, "succeed")
            event = await until(m, EventKind.RETRYING, task)
            assert event.error is not None
            assert "Too many open files" in event.error.message
            await eventually(lambda: problems(m))
            tell(m)
        assert (await m.wait(task.id)).state is TaskState.COMPLETED
        await eventually(lambda: not problems(m))
        tell(m)


async def worker_dies(folder: Path, exhausted: Callable[[], AbstractContextManager[None]]) -> None:
    """The worker dies, and a task comes while no other can be started."""
    async with manager(folder, sample_seconds=0.02) as m:
        await m.wait((await add(m, folder, "succeed")).id)
        tell(m)
        with exhausted():
            os.kill(m.workers()[0].pid or 0, 9)
            await eventually(lambda: any("does not start" in problem for problem in problems(m)))
            task = await add(m, folder, "succeed")
            tell(m)
            assert m.get_task(task.id).state is TaskState.QUEUED
        assert (await m.wait(task.id)).state is TaskState.COMPLETED
        await eventually(lambda: not problems(m))
        tell(m)


def problems(m: WorkerManager) -> list[str]:
    found: list[str] = m.get_status()["health"]["problems"]
    return found


def tell(m: WorkerManager) -> None:
    print(json.dumps(m.get_status()["health"]), flush=True)


@contextmanager
def no_files() -> Iterator[None]:
    """No number below the limit is free, and stays so whatever is closed in the meantime."""
    own, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (own, most))


@contextmanager
def no_processes() -> Iterator[None]:
    """As when the limit is reached, which does not hold for root: what the system says then is said by Python."""
    real = subprocess.Popen.__init__

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    subprocess.Popen.__init__ = refuse  # type: ignore[method-assign]
    yield
    subprocess.Popen.__init__ = real  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
