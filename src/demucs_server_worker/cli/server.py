"""The life of the server process: it starts a manager and the HTTP API over it, says what runs, and stops both when a
signal asks for it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog

from demucs_server_worker import __version__
from demucs_server_worker.cli import words
from demucs_server_worker.cli.exits import DONE
from demucs_server_worker.logs import adopt_library_logs, configure_logging, for_people
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.server.app import create_app
from demucs_server_worker.server.http_server import HttpServer, bind
from demucs_server_worker.server.services import opened
from demucs_server_worker.server.submitting import length_of
from demucs_server_worker.settings import Settings
from demucs_server_worker.watch.plan import Plan
from demucs_server_worker.watch.watcher import watching
from demucs_server_worker.webhooks.rules import Rules

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = structlog.get_logger("demucs_server_worker.server")


class StopSignals:
    """What the signals asked for: to stop, and after that, to stop at once."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.at_once = asyncio.Event()

    def hear(self) -> None:
        """One more signal."""
        (self.at_once if self.stop.is_set() else self.stop).set()

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP are heard while the block runs."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.hear)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


def run_server(settings: Settings) -> int:
    """Work off the data folder and answer HTTP clients until a signal says to stop.

    Args:
        settings: of the manager, the HTTP server and the log.

    Returns:
        The exit code.

    Raises:
        InvalidSetting: the address cannot be listened on, or the watched folder does not fit.
        DataFolderInUse: another manager runs on the same folder.
        QueueCorrupt, OutputNotWritable, …: the data folder cannot be used.
    """
    plan = Plan.of(settings)
    configure_logging(settings.log_level, settings.log_format)
    adopt_library_logs(settings.log_format)
    # Before the workers start: a port that is taken is told at once.
    Rules.of(settings)
    return asyncio.run(_serve(settings, bind(settings), plan))


async def _serve(settings: Settings, sockets: list[socket.socket], plan: Plan | None) -> int:
    signals = StopSignals()
    with signals.heeded():
        manager = WorkerManager(settings)
        # A signal that comes while it starts is heard once it has: a start that is broken off half-way would have to
        # be cleaned up after.
        await manager.start()
        async with opened(manager) as services, watching(plan, manager, partial(length_of, services)):
            http = HttpServer(create_app(services), sockets, most_connections=settings.max_connections)
            await http.start()
            _introduce(manager, http.url)
            await signals.stop.wait()
            # It answers to the end of the grace period, so that clients can follow what still runs.
            await _stop(manager, signals)
            await http.stop()
        _log.info("stopped")
    return DONE


async def _stop(manager: WorkerManager, signals: StopSignals) -> None:
    running = manager.get_status()["queue"]["running"]
    grace_seconds = manager.settings.shutdown_grace
    _log.info("stopping", running=running, grace_seconds=grace_seconds, at_once="send the signal again")
    stopping = asyncio.ensure_future(manager.shutdown())
    at_once = asyncio.ensure_future(signals.at_once.wait())
    await asyncio.wait({stopping, at_once}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        _log.warning("stopping at once", detail="running tasks go back to the queue")
        await manager.shutdown(0)
    at_once.cancel()
    await stopping


def _introduce(manager: WorkerManager, url: str) -> None:
    """The first lines: what runs, on what, and how to stop it."""
    settings = manager.settings
    status = manager.get_status()
    queued, workers, grace_seconds = status["queue"]["queued"], len(status["workers"]), settings.shutdown_grace
    if not for_people(settings.log_format, sys.stderr):
        _log.info(
            "serving", url=url, version=__version__, data_dir=str(settings.data_dir), workers=workers,
            model=settings.model, device=settings.device, queued=queued, stop="SIGINT or SIGTERM",
            grace_seconds=grace_seconds,
        )  # fmt: skip
        return
    lines = (
        f"demucs-server-worker {__version__}",
        f"  listens on   {url}",
        f"  data folder  {words.printable(str(settings.data_dir))} ({queued} queued)",
        f"  workers      {workers}, model {words.printable(settings.model)}, device {settings.device}",
        f"  to stop      Ctrl-C: running tasks get {grace_seconds:g} s, the rest stays queued; again: at once",
    )
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
