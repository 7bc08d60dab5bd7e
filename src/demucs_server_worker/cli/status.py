"""`status`: what a running server does, once or as a live screen."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from demucs_server_worker.cli import remote
from demucs_server_worker.cli.exits import DONE
from demucs_server_worker.cli.remote import JsonFlag, UrlFlag

EPILOG = f"""\
[bold]Examples[/bold]

A live screen, left with q: [cyan]demucs-server-worker status --watch[/cyan]

Of a server elsewhere: [cyan]demucs-server-worker status --url https://stems.example[/cyan]

How many songs wait: [cyan]demucs-server-worker status --json | jq .queue.queued[/cyan]

{remote.KEY_NOTE}
"""

WATCH_SECONDS = 1.0


def status(
    watch: Annotated[bool, typer.Option(
        "-w", "--watch", help="Go on until q or Ctrl-C, also when the server goes away and comes back.")] = False,
    url: UrlFlag = None,
    as_json: JsonFlag = False,
) -> int:  # fmt: skip
    """Show queue, workers, machine and health of a running server."""
    if watch and sys.stdout.isatty() and not as_json:
        from demucs_server_worker.cli.status_screen import watch_screen

        return watch_screen(url)
    if watch:
        return _repeat(url, as_json)
    return remote.reported(lambda: _once(url, as_json))


def _once(url: str | None, as_json: bool) -> int:
    with remote.connected(url) as client:
        now = client.status()
        if as_json:
            from demucs_server_worker.cli.json_report import write_line

            write_line(sys.stdout, now.model_dump(mode="json"))
            return DONE
        from demucs_server_worker.cli.status_view import plain

        running = list(client.tasks("running", limit=len(now.workers) or 1))
        sys.stdout.write(plain(client.url, now, running) + "\n")
        sys.stdout.flush()
    return DONE


def _repeat(url: str | None, as_json: bool) -> int:
    """For pipes and files: one status after the other; a server that is away is told on standard error."""
    while True:
        remote.reported(lambda: _once(url, as_json))
        time.sleep(WATCH_SECONDS)
