"""The command `demucs-server-worker`: its sub-commands, and what all of them share."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from demucs_server_worker import __version__
from demucs_server_worker.cli.bench import EPILOG as BENCH_EPILOG
from demucs_server_worker.cli.bench import bench
from demucs_server_worker.cli.change import CANCEL_EPILOG, DELETE_EPILOG, RETRY_EPILOG, cancel, delete, retry
from demucs_server_worker.cli.demo import EPILOG as DEMO_EPILOG
from demucs_server_worker.cli.demo import demo
from demucs_server_worker.cli.doctor import EPILOG as DOCTOR_EPILOG
from demucs_server_worker.cli.doctor import doctor
from demucs_server_worker.cli.exits import DONE, INTERRUPTED, SOME_FAILED, USAGE, Interrupted, Misuse, UsageError
from demucs_server_worker.cli.models import EPILOG as MODELS_EPILOG
from demucs_server_worker.cli.models import models
from demucs_server_worker.cli.separate import EPILOG as SEPARATE_EPILOG
from demucs_server_worker.cli.separate import separate
from demucs_server_worker.cli.serve import EPILOG as SERVE_EPILOG
from demucs_server_worker.cli.serve import serve
from demucs_server_worker.cli.status import EPILOG as STATUS_EPILOG
from demucs_server_worker.cli.status import status
from demucs_server_worker.cli.submit import EPILOG as SUBMIT_EPILOG
from demucs_server_worker.cli.submit import submit
from demucs_server_worker.cli.tasks import EPILOG as TASKS_EPILOG
from demucs_server_worker.cli.tasks import tasks
from demucs_server_worker.errors import DataFolderInUse, DemucsWorkerError, InvalidSetting, RequestError

NAME = "demucs-server-worker"

app = typer.Typer(
    name=NAME,
    help="Separate songs into stems with Demucs: many in parallel, none lost.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=SERVE_EPILOG)(serve)
app.command(epilog=SEPARATE_EPILOG)(separate)
app.command(epilog=SUBMIT_EPILOG)(submit)
app.command(epilog=STATUS_EPILOG)(status)
app.command(epilog=TASKS_EPILOG)(tasks)
app.command(epilog=CANCEL_EPILOG)(cancel)
app.command(epilog=RETRY_EPILOG)(retry)
app.command(epilog=DELETE_EPILOG)(delete)
app.command(epilog=DEMO_EPILOG)(demo)
app.command(epilog=MODELS_EPILOG)(models)
app.command(epilog=DOCTOR_EPILOG)(doctor)
app.command(epilog=BENCH_EPILOG)(bench)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{NAME} {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Separate songs into stems with Demucs: many in parallel, none lost. Without a command: serve."""


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: what stands behind the program's name.

    Returns:
        The exit code: 0 done, 1 some task failed, 2 usage, 130 interrupted.
    """
    _never_fail_to_print()
    try:
        result = app(args=list(arguments) or ["serve"], prog_name=NAME, standalone_mode=False)
        return result if isinstance(result, int) else DONE
    except Misuse as error:
        return _refuse(error.format_message(), arguments)  # type: ignore[attr-defined]
    except (UsageError, InvalidSetting, RequestError) as error:
        return _refuse(str(error), arguments)
    except DataFolderInUse as error:
        return _say(f"{NAME}: {error.message}", USAGE)
    except DemucsWorkerError as error:
        return _say(f"{NAME}: {error.message}", SOME_FAILED)
    except (KeyboardInterrupt, Interrupted, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone, as `head` does; the interpreter must not stumble over it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED


def _refuse(sentence: str, arguments: Sequence[str]) -> int:
    if not sentence:
        return USAGE  # the help has been shown instead
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    command = next((f"{NAME} {word}" for word in arguments[:1] if word in names), NAME)
    return _say(f"{NAME}: {sentence}\nTry `{command} --help`.", USAGE)


def _say(text: str, code: int) -> int:
    from demucs_server_worker.cli.words import printable

    sys.stderr.write("\n".join(printable(line) for line in text.split("\n")) + "\n")
    return code


def _never_fail_to_print() -> None:
    """A name that the terminal's encoding lacks is no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
