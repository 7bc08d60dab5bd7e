"""All checks, in the order of the three troubles."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from demucs_server_worker.doctor import crashes, installation, slowness, surroundings
from demucs_server_worker.doctor.check import Check, Trouble, failed, fine
from demucs_server_worker.doctor.trial import try_worker
from demucs_server_worker.errors import InvalidSetting
from demucs_server_worker.health.estimate import table_estimate
from demucs_server_worker.machine import basics
from demucs_server_worker.machine.gpus import Gpus
from demucs_server_worker.settings import Settings, load_settings
from demucs_server_worker.sizing import usable_gpus, worker_count


def examine(config: Path | None = None, *, quick: bool = False, **flags: Any) -> Iterator[Check]:
    """Look at everything, one check after the other.

    Args:
        config, flags: as for `load_settings`. Where they are wrong, the rest is looked at with the defaults.
        quick: do without the child that loads torch and without the trial.
    """
    try:
        settings = load_settings(config, **flags)
        yield fine(Trouble.STARTS, "settings", "all are valid")
    except InvalidSetting as error:
        settings = Settings.model_construct()
        yield failed(Trouble.STARTS, "settings", error.message, "Set it right; docs/settings.md lists all of them.")
    yield from _Examination(settings, quick).checks()


class _Examination:
    def __init__(self, settings: Settings, quick: bool) -> None:
        self._settings = settings
        self._quick = quick
        self._folder = settings.data_dir
        self._pid = surroundings.running_manager(settings.data_dir)
        self._cores, self._memory, self._gpus = basics.cores(), basics.memory(), len(Gpus())
        self._workers = worker_count(
            settings.max_workers, cores=self._cores, memory_bytes=self._memory.total,
            gpus=usable_gpus(settings.device, self._gpus),
        )  # fmt: skip

    def checks(self) -> Iterator[Check]:
        installed = [installation.check_python(), installation.check_packages()]
        yield from installed
        probed = "it was not looked at" if self._quick else installation.probe(self._settings.device)
        if not self._quick:
            loading = list(installation.check_probe(probed, self._settings))
            yield from loading
            installed += loading
        yield installation.check_model(self._settings)
        yield surroundings.check_folder(self._folder)
        yield surroundings.check_manager(self._folder, self._pid)
        yield surroundings.check_port(self._settings, self._pid)
        yield surroundings.check_disk(self._folder)
        yield surroundings.check_limits(self._workers)
        if not self._quick and installation.loads(installed):
            yield asyncio.run(try_worker(self._settings))
        device = None if isinstance(probed, str) else probed["device"]
        yield from self._crashes(device)
        yield slowness.check_workers(self._workers, self._cores, device)
        yield from slowness.check_device(self._settings, probed, self._gpus)
        yield from slowness.check_backend(self._settings, probed)
        yield slowness.check_load(
            os.getloadavg()[0], psutil.cpu_count() or self._cores, manager_runs=self._pid is not None
        )
        yield slowness.check_swap(psutil.swap_memory().used, self._memory.available)

    def _crashes(self, device: str | None) -> Iterator[Check]:
        bytes_a_worker = table_estimate(crashes.default_options(self._settings), device)
        yield crashes.check_memory(self._settings, self._workers, bytes_a_worker, self._memory)
        yield crashes.check_sizes(self._settings)
        yield crashes.check_logs(self._settings)
        yield from crashes.check_queue(self._folder)
