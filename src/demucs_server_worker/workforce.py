"""The pool that the settings ask for, on the machine that there is, and what its workers are told of a task."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from demucs_server_worker import __version__
from demucs_server_worker.health.monitor import HealthConfig
from demucs_server_worker.machine import basics
from demucs_server_worker.machine.gpus import Gpus, torch_has_cuda
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.pool.base import Limits, WorkerEvent
from demucs_server_worker.pool.local import LocalPool, PoolConfig
from demucs_server_worker.settings import Settings
from demucs_server_worker.sizing import threads_per_worker, usable_gpus, worker_count, worker_devices
from demucs_server_worker.task import Task
from demucs_server_worker.worker.messages import Run

# glibc gives large blocks back to the kernel at once and asks for them again with the next segment. Kept, a segment
# takes a tenth less time with torch; with OpenVINO nothing less, and 160 MB more (docs/decisions.md).
KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(4 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 2**30),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}

# Between asking a worker to give a task up and killing it. Cancelling takes effect within a segment.
CANCEL_GRACE_SECONDS = 10.0
# Workers compute for minutes, the server answers in milliseconds: it goes first. With nobody else about, it is free.
NICENESS = 5


def local_pool(settings: Settings, gpus: Gpus, on_event: Callable[[WorkerEvent], None]) -> LocalPool:
    """A pool of processes on this machine.

    Args:
        settings: how many workers, on which device, with which model.
        gpus: those that are visible here.
        on_event: told of each worker's start and death.
    """
    cores = basics.cores()
    usable = usable_gpus(settings.device, len(gpus) if torch_has_cuda() else 0)
    size = worker_count(settings.max_workers, cores=cores, memory_bytes=basics.memory().total, gpus=usable)
    config = PoolConfig(
        size=size,
        devices=worker_devices(settings.device, gpus=usable),
        model=settings.model if settings.preload else None,
        model_repo=settings.model_repo,
        precision=settings.precision,
        # What a worker compiles before it is ready is for a full pool: the first songs of a batch need not wait again.
        threads=threads_per_worker(cores, size),
        backend=settings.backend,
        cache_dir=settings.cache_dir,
        nice=NICENESS,
        environment={} if _may_use_openvino(settings) else KEPT_MEMORY,
    )
    return LocalPool(config, on_event)


def health_config(settings: Settings) -> HealthConfig:
    """What the pool's memory is reckoned by."""
    return HealthConfig(
        worker_memory=settings.worker_memory,
        max_queued=settings.max_queued,
        openvino=_may_use_openvino(settings),
        preloaded=settings.model if settings.preload else None,
    )


def _may_use_openvino(settings: Settings) -> bool:
    return settings.backend != "torch" and importlib.util.find_spec("openvino") is not None


def run_of(task: Task, staging: Path, settings: Settings) -> Run:
    """What a worker is told of a task, that it is to write into the folder `staging`."""
    request = task.request
    return Run(
        task_id=task.id,
        attempt=task.attempt,
        claim=task.claim,
        input_path=request.input_path,
        input_name=request.input_name,
        project_name=request.project_name,
        output_dir=request.output_dir,
        staging=str(staging),
        options=request.options,
        max_duration_seconds=settings.max_duration,
        max_file_bytes=settings.max_file_size,
        conditions=conditions_of(request.options, settings),
    )


def conditions_of(options: SeparationOptions, settings: Settings) -> str:
    """What, beside song, model and options, decides how stems sound: where and how exactly they are computed.

    What was asked for counts, not what it came to: whoever sets another device or precision wants to hear that one.
    """
    device = settings.device if options.device == "auto" else options.device
    precision = settings.precision if options.precision == "auto" else options.precision
    return f"{__version__} {device} {precision} {settings.backend}"


def limits_of(settings: Settings) -> Limits:
    """When an attempt is taken from its worker."""
    return Limits(
        timeout_seconds=settings.task_timeout_seconds,
        stall_seconds=settings.stall_timeout,
        grace_seconds=CANCEL_GRACE_SECONDS,
    )
