"""What commands that separate without a server have in common: settings, the model, and how they report."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from demucs_server_worker.cli import words
from demucs_server_worker.events import EventKind
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.settings import Settings, load_settings

if TYPE_CHECKING:
    from demucs_server_worker.cli.batch import Report

# Settings that protect a server from its clients, with values that stop nobody. They hold for a user's own files
# only where the user set them.
_NO_LIMITS: dict[str, Any] = {
    "max_file_size": 2**62,
    "max_duration": 1e9,
    "task_timeout": 10**12,
    "max_queued": 10**9,
}

# What a batch's report tells anyway. What happens to workers and to the machine's health it leaves to the log.
_TOLD_BY_REPORT = frozenset(kind.value for kind in EventKind) - {EventKind.WORKER_DIED, EventKind.HEALTH_CHANGED}


def local_settings(config: Path | None, **flags: Any) -> Settings:
    """The settings for a batch on this machine.

    Args:
        config: a TOML file, or None.
        flags: settings that were given on the command line; None means not given.

    Raises:
        InvalidSetting: one line with the setting, the value and what is allowed.
    """
    given = load_settings(config, **flags)
    unlimited = {name: value for name, value in _NO_LIMITS.items() if name not in given.model_fields_set}
    # A model that cannot be loaded then fails the task, with a reason, and not the worker's start.
    return load_settings(config, **flags, **unlimited, preload=False)


def sized(settings: Settings, songs: int, jobs: int | None) -> Settings:
    """The same with as many workers as wanted, and no more than there are songs.

    Args:
        settings: as they are.
        songs: number of songs.
        jobs: workers; None or 0 takes the setting.
    """
    wanted = jobs or settings.max_workers
    workers = wanted if wanted == "auto" else max(1, min(wanted, songs))
    return settings.model_copy(update={"max_workers": workers})


def warn_of_empty(names: Iterable[str]) -> None:
    """Say on standard error that there is nothing to separate in these folders or patterns."""
    for name in names:
        sys.stderr.write(f"no song in {words.printable(name)}\n")


def have_model(name: str, repo: Path | None, *, quiet: bool) -> None:
    """See that a model's files are on this machine, and fetch them if they can be fetched.

    Args:
        name: the model.
        repo: a folder of models, or None.
        quiet: draw no progress.

    Raises:
        UnknownModel, ModelUnavailable, ModelCorrupt, DiskFull: why there is no model.
    """
    from demucs_server_worker.separation import catalogue

    files = catalogue.locate(name, repo)
    if files.source != "hub" or files.on_disk:
        return
    download(name, quiet=quiet)


def download(name: str, *, quiet: bool) -> list[Path]:
    """Fetch a model, with a bar on standard error if that is a terminal. See `catalogue.download`."""
    from demucs_server_worker.separation import catalogue

    if quiet or not sys.stderr.isatty():
        return catalogue.download(name)

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("fetching {task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar_of: dict[str, Any] = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in bar_of:
                bar_of[file] = bars.add_task(words.printable(file), total=total)
            bars.update(bar_of[file], completed=done, total=total)

        return catalogue.download(name, show)


def chosen_report(settings: Settings, *, as_json: bool, quiet: bool) -> Report:
    """The way to tell how a batch goes: for programs, for a terminal, or in plain lines; logs then fit to it."""
    from demucs_server_worker.cli.json_report import JsonReport
    from demucs_server_worker.cli.plain_report import PlainReport, QuietReport

    if as_json or quiet or not sys.stdout.isatty():
        _log_to(settings, sys.stderr)
        return JsonReport() if as_json else QuietReport() if quiet else PlainReport()

    from demucs_server_worker.cli.live_report import LiveReport

    report = LiveReport()
    _log_to(settings, report.log_stream)
    return report


def _log_to(settings: Settings, stream: Any) -> None:
    """Unless the user set a level, only what the report does not tell anyway is logged."""
    wanted = "log_level" in settings.model_fields_set
    format = settings.log_format if "log_format" in settings.model_fields_set else "console"
    configure_logging(settings.log_level if wanted else "warning", format, stream)
    if not wanted:
        structlog.configure(processors=[_leave_out_task_events, *structlog.get_config()["processors"]])


def _leave_out_task_events(logger: Any, method: str, event: Any) -> Any:
    if event.get("event") in _TOLD_BY_REPORT:
        raise structlog.DropEvent
    return event
