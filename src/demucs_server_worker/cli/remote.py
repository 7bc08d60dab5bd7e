"""What the commands that speak to a running server share: the connection, ids as people type them, and refusals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from demucs_server_worker.cli import words
from demucs_server_worker.cli.exits import DONE, SOME_FAILED, UsageError
from demucs_server_worker.errors import DemucsWorkerError, InvalidOption, InvalidSetting, TaskNotFound

if TYPE_CHECKING:
    from demucs_server_worker.client import Client, Patience
    from demucs_server_worker.wire.task import TaskBody

UrlFlag = Annotated[str | None, typer.Option(
    "--url", metavar="URL",
    help="The server's address. DEMUCS_WORKER_URL or http://127.0.0.1:8000 by default.")]  # fmt: skip
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

KEY_NOTE = (
    "Where the server wants an API key, it is taken from DEMUCS_WORKER_API_KEY: other users of the machine can read a "
    "command line.\n"
)

# Below, a beginning says too little to cancel a task by.
SHORTEST_PREFIX = 4
SHOWN_ID_LETTERS = 8
ID_LETTERS = 32


@contextmanager
def connected(url: str | None, patience: Patience | None = None) -> Iterator[Client]:
    """A client of the server that the flag, else the environment names."""
    from demucs_server_worker.client import Client

    with Client(url, patience=patience) as client:
        yield client


def reported(work: Callable[[], int]) -> int:
    """Do the work of a command; what the server, or its absence, has against it is told in one line.

    Returns:
        The command's exit code: 1 where it was refused.

    Raises:
        InvalidOption, InvalidSetting: the command itself was wrong.
    """
    try:
        return work()
    except (InvalidOption, InvalidSetting):
        raise
    except DemucsWorkerError as error:
        warn(error.message)
        return SOME_FAILED


def warn(line: str) -> None:
    """One line on standard error, whatever is in it."""
    sys.stderr.write(f"demucs-server-worker: {words.printable(line)}\n")
    sys.stderr.flush()


def write_tasks(tasks: Iterable[TaskBody]) -> None:
    """Each task as one line of JSON, in ASCII."""
    from demucs_server_worker.cli.json_report import write_line

    for task in tasks:
        write_line(sys.stdout, task.model_dump(mode="json"))


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Beginnings of ids that are enough to tell them apart, eight letters or more."""
    known = list(ids)
    length = SHOWN_ID_LETTERS
    while length < ID_LETTERS and len({each[:length] for each in known}) < len(set(known)):
        length += 1
    return {each: each[:length] for each in known}


def whole_ids(client: Client, given: Sequence[str]) -> list[str]:
    """Ids from what a user typed: whole ones, or the beginning of one.

    Raises:
        UsageError: no id at all, or the beginning of several.
        TaskNotFound: the beginning of none.
    """
    wanted = [each.strip().lower() for each in given]
    for each in wanted:
        if len(each) < SHORTEST_PREFIX or not set(each) <= set("0123456789abcdef"):
            raise UsageError(f"{each} is no id of a task; `demucs-server-worker tasks` shows them.")
    known = [] if all(len(each) >= ID_LETTERS for each in wanted) else [task.id for task in client.tasks()]
    return list(dict.fromkeys(_whole(each, known) for each in wanted))


def _whole(beginning: str, known: Sequence[str]) -> str:
    if len(beginning) >= ID_LETTERS:
        return beginning
    found = [each for each in known if each.startswith(beginning)]
    if len(found) > 1:
        raise UsageError(f"{beginning} is the beginning of {len(found)} ids; give more of it.")
    if not found:
        raise TaskNotFound(f"No task has an id that begins with {beginning}.")
    return found[0]


def for_each(client: Client, given: Sequence[str], change: Callable[[str], TaskBody | None], as_json: bool,
             done: str) -> int:  # fmt: skip
    """Change tasks one after the other; one that cannot be is named, and the others are changed.

    Args:
        client: of the server.
        given: ids, or beginnings of ids.
        change: changes one task.
        as_json: print the tasks as they are then.
        done: what has been done to each, in a word.

    Returns:
        The exit code.
    """
    code = DONE
    ids = whole_ids(client, given)
    shown = short_ids(ids)
    for task_id in ids:
        try:
            task = change(task_id)
        except DemucsWorkerError as error:
            if error.code in ("server_unreachable", "unauthorized"):
                raise
            warn(f"{shown[task_id]}: {error.message}")
            code = SOME_FAILED
        else:
            if as_json:
                _write_change(task_id, task, done)
            else:
                name = f" {words.printable(task.input_name)}" if task is not None else ""
                sys.stdout.write(f"{done} {shown[task_id]}{name}\n")
    return code


def _write_change(task_id: str, task: TaskBody | None, done: str) -> None:
    from demucs_server_worker.cli.json_report import write_line

    write_line(sys.stdout, {"id": task_id, "state": done} if task is None else task.model_dump(mode="json"))
