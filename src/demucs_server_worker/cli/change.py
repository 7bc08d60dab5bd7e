"""`cancel`, `retry` and `delete`: tasks of a running server, changed."""

from __future__ import annotations

from typing import Annotated

import typer

from demucs_server_worker.cli import remote
from demucs_server_worker.cli.remote import JsonFlag, UrlFlag

_IDS = "Ids of tasks are those that `tasks` shows: whole, or as much of the beginning as tells them apart.\n"

CANCEL_EPILOG = f"""\
[bold]Examples[/bold]

[cyan]demucs-server-worker cancel 0b9e1c6e 71085a92[/cyan]

{_IDS}
{remote.KEY_NOTE}
Exit codes: 0 all are cancelled; 1 one could not be, and is named; 2 usage.
"""

RETRY_EPILOG = f"""\
[bold]Examples[/bold]

[cyan]demucs-server-worker retry 0b9e1c6e[/cyan]

{_IDS}
{remote.KEY_NOTE}
Exit codes: 0 all are queued; 1 one could not be, and is named; 2 usage.
"""

DELETE_EPILOG = f"""\
[bold]Examples[/bold]

[cyan]demucs-server-worker delete 0b9e1c6e[/cyan]

{_IDS}
{remote.KEY_NOTE}
Exit codes: 0 all are gone; 1 one could not be deleted, and is named; 2 usage.
"""

_Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Tasks, as `tasks` shows them.")]


def cancel(ids: _Ids, url: UrlFlag = None, as_json: JsonFlag = False) -> int:
    """Cancel tasks of a running server, queued or running."""

    def work() -> int:
        with remote.connected(url) as client:
            return remote.for_each(client, ids, client.cancel, as_json, "cancelled")

    return remote.reported(work)


def retry(ids: _Ids, url: UrlFlag = None, as_json: JsonFlag = False) -> int:
    """Queue failed or cancelled tasks of a running server again."""

    def work() -> int:
        with remote.connected(url) as client:
            return remote.for_each(client, ids, client.retry, as_json, "queued")

    return remote.reported(work)


def delete(ids: _Ids, url: UrlFlag = None, as_json: JsonFlag = False) -> int:
    """Delete finished tasks of a running server, with the files that it keeps for them."""

    def work() -> int:
        with remote.connected(url) as client:
            return remote.for_each(client, ids, client.delete, as_json, "deleted")

    return remote.reported(work)
