"""`serve`: the worker manager with its HTTP API and web page, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

EPILOG = """\
[bold]Examples[/bold]

As many workers as the machine has room for: [cyan]demucs-server-worker serve -w auto[/cyan]

Two servers side by side: [cyan]demucs-server-worker serve --port 8001 --data-dir /srv/second[/cyan]

Open to a network: [cyan]DEMUCS_WORKER_API_KEYS=… demucs-server-worker serve --host 0.0.0.0[/cyan]

Whatever is put into a folder: [cyan]demucs-server-worker serve --watch ~/songs --output ~/stems[/cyan]

The web page is at the address that it prints, the HTTP API below /api/v1 there, its description at /docs. An API key is
taken from the environment or the file of settings only: other users of the machine can read a command line.

Ctrl-C or SIGTERM stops the server: running tasks get DEMUCS_WORKER_SHUTDOWN_GRACE (30 s) to finish, the rest stays
queued on disk. A second signal stops it at once; nothing is lost either way.

Exit codes: 0 stopped as asked; 2 a setting is not valid, the port is taken or the data folder in use; 1 the folder
cannot be used.
"""

_RUN, _DEV = "Running", "Development"


def serve(
    max_workers: Annotated[str | None, typer.Option(
        "-w", "--max-workers", metavar="N", rich_help_panel=_RUN,
        help="Most workers at once, or auto: by cores, memory and GPUs. MAX_WORKERS or 2 by default.")] = None,
    host: Annotated[str | None, typer.Option(
        metavar="ADDRESS", rich_help_panel=_RUN,
        help="Address to listen on, 127.0.0.1 by default. Any other than this machine's own needs an API key.")] = None,
    port: Annotated[int | None, typer.Option(
        metavar="PORT", rich_help_panel=_RUN, help="Port to listen on, 8000 by default; 0 takes a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(
        file_okay=False, rich_help_panel=_RUN,
        help="Folder of the queue. DEMUCS_WORKER_DATA_DIR or the user's data folder by default.")] = None,
    watch: Annotated[Path | None, typer.Option(
        metavar="IN", rich_help_panel=_RUN,
        help="Folder in which songs that appear become tasks, and those already there. Needs --output.")] = None,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", metavar="OUT", rich_help_panel=_RUN, help="Folder for the stems of those songs.")] = None,
    watch_options: Annotated[str | None, typer.Option(
        metavar="OPTIONS", rich_help_panel=_RUN,
        help="Separation options of those songs: 'format=mp3 two_stems=vocals'.")] = None,
    model: Annotated[str | None, typer.Option(
        metavar="NAME", rich_help_panel=_RUN, help="Model of tasks that name none. htdemucs by default.")] = None,
    repo: Annotated[Path | None, typer.Option(
        file_okay=False, rich_help_panel=_RUN,
        help="Folder of local models, instead of those that Demucs publishes.")] = None,
    device: Annotated[str | None, typer.Option(
        "-d", "--device", rich_help_panel=_RUN, help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"] | None, typer.Option(
        rich_help_panel=_RUN, help="How much is logged. LOG_LEVEL or info by default.")] = None,
    log_format: Annotated[Literal["auto", "console", "json"] | None, typer.Option(
        rich_help_panel=_RUN, help="Lines for people, JSON, or auto: for people on a terminal.")] = None,
    config: Annotated[Path | None, typer.Option(
        metavar="FILE", rich_help_panel=_RUN, help="Settings as TOML, below those of the environment.")] = None,
    reload: Annotated[bool, typer.Option(
        "--reload", rich_help_panel=_DEV, help="Start anew, with nothing lost, whenever the source changes.")] = False,
    reload_dir: Annotated[list[Path] | None, typer.Option(
        exists=True, file_okay=False, metavar="DIR", rich_help_panel=_DEV,
        help="With --reload: watch this folder instead of the package's own. Can be given several times.")] = None,
) -> int:  # fmt: skip
    """Run the worker manager until it is told to stop. The same as no command at all."""
    from demucs_server_worker.settings import load_settings

    flags: dict[str, Any] = {
        "max_workers": max_workers, "host": host, "port": port, "data_dir": data_dir, "model": model,
        "model_repo": repo, "device": device, "log_level": log_level, "log_format": log_format,
        "watch": watch, "watch_output": output, "watch_options": watch_options,
    }  # fmt: skip
    settings = load_settings(config, **flags)
    if reload or reload_dir:
        from demucs_server_worker.cli.reload import serve_and_reload

        return serve_and_reload(_arguments(flags, config), reload_dir)

    from demucs_server_worker.cli.server import run_server

    return run_server(settings)


def _arguments(flags: dict[str, Any], config: Path | None) -> list[str]:
    """The same flags again, for a child."""
    names = {"model_repo": "repo", "watch_output": "output"}
    given = {names.get(name, name): value for name, value in {**flags, "config": config}.items()}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
