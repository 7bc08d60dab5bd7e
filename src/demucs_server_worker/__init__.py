"""A server worker for Demucs: many songs in parallel, a durable queue, warm workers, nothing lost.

    from demucs_server_worker import WorkerManager

    async with WorkerManager(max_workers=2) as manager:
        task = await manager.add_task(input_path="song.mp3", output_dir="stems")
        done = await manager.wait(task.id)

The module itself can be used as one default manager, started at the first `add_task`:

    import demucs_server_worker as worker_manager

    task = await worker_manager.add_task(input_path="song.mp3", output_dir="stems")

and `separate(files, output_dir)` is the one-line blocking call for scripts.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from demucs_server_worker.default import add_task, cancel, events, get_status, separate, shutdown, wait
    from demucs_server_worker.errors import DemucsWorkerError, TaskCancelled, TaskFailed
    from demucs_server_worker.manager import WorkerManager
    from demucs_server_worker.options import SeparationOptions
    from demucs_server_worker.settings import Settings
    from demucs_server_worker.task import Priority, Stem, Task, TaskState

# Loaded when first used, so that `import demucs_server_worker` and the command's `--help` answer at once.
_HOMES = {
    "DemucsWorkerError": "errors",
    "Priority": "task",
    "SeparationOptions": "options",
    "Settings": "settings",
    "Stem": "task",
    "Task": "task",
    "TaskCancelled": "errors",
    "TaskFailed": "errors",
    "TaskState": "task",
    "WorkerManager": "manager",
    "add_task": "default",
    "cancel": "default",
    "events": "default",
    "get_status": "default",
    "separate": "default",
    "shutdown": "default",
    "wait": "default",
}

__all__ = [
    "DemucsWorkerError",
    "Priority",
    "SeparationOptions",
    "Settings",
    "Stem",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskState",
    "WorkerManager",
    "__version__",
    "add_task",
    "cancel",
    "events",
    "get_status",
    "separate",
    "shutdown",
    "wait",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


class _Package(ModuleType):
    """`events` is a function of this module, and the name of a submodule: importing that must not hide the function."""

    @property
    def events(self) -> Any:
        return __getattr__("events")

    @events.setter
    def events(self, submodule: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
