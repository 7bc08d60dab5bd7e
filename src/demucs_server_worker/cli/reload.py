"""`serve --reload`: a parent that watches the source and starts the server anew when it changes.

Run as a program, this is the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog

import demucs_server_worker
from demucs_server_worker.cli.exits import DONE, USAGE, UsageError
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.worker.lifeline import die_with_parent

# How often the parent looks whether the child still lives.
LOOK_MILLISECONDS = 250
# Changes within this time are one: an editor that saves all files, a checkout.
QUIET_MILLISECONDS = 300
# A developer waits for the new code, not for a song: what runs goes back to the queue, and is run anew.
GRACE_VARIABLE = "DEMUCS_WORKER_SHUTDOWN_GRACE"
GRACE_SECONDS = "0"

SOURCE_ENDINGS = (".py", ".sql", ".yaml", ".toml", ".html", ".css", ".js")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = structlog.get_logger("demucs_server_worker.reload")


def serve_and_reload(arguments: Sequence[str], folders: Sequence[Path] | None = None) -> int:
    """Run `serve` in a child, and anew after each change, until a signal says to stop.

    Args:
        arguments: of `serve`.
        folders: to watch; by default those of this package.

    Returns:
        The exit code of the child that ran last.

    Raises:
        UsageError: what watches files is not installed.
    """
    try:
        import watchfiles
    except ImportError:
        raise UsageError("--reload needs the package watchfiles: pip install 'demucs-server-worker[dev]'.") from None

    configure_logging()
    watched = list(folders or [Path(demucs_server_worker.__file__).parent])
    _log.info("reloading on a change", folders=[str(folder) for folder in watched])
    with _Child(arguments).following_signals() as child:
        for changes in watchfiles.watch(
            *watched, watch_filter=_is_source, debounce=QUIET_MILLISECONDS, rust_timeout=LOOK_MILLISECONDS,
            yield_on_timeout=True, stop_event=child.stopping, raise_interrupt=False,
        ):  # fmt: skip
            if changes:
                _log.info("changed, starting anew", files=sorted(Path(path).name for _, path in changes))
                child.start_anew()
            elif child.gave_up:
                break
    return child.wait()


def _is_source(change: object, path: str) -> bool:
    return path.endswith(SOURCE_ENDINGS)


class _Child:
    """The server as a child, one after the other."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.stopping = threading.Event()
        self._command = [sys.executable, "-m", "demucs_server_worker.cli.reload", *arguments]
        self._environment = {GRACE_VARIABLE: GRACE_SECONDS, **os.environ}
        self._process = self._start()
        self._said_ended = False

    @property
    def gave_up(self) -> bool:
        """Whether it ended by itself in a way that no change of the source would mend. One that crashed is left for
        the next change."""
        code = self._process.poll()
        if code is None or code in (DONE, USAGE):
            return code is not None
        if not self._said_ended:
            self._said_ended = True
            _log.error("the server ended; it is started anew at the next change", exit_code=code)
        return False

    def start_anew(self) -> None:
        """Stop it, wait until it has, and start it; unless a signal came in between."""
        self._tell(signal.SIGTERM)
        self._process.wait()
        if self.stopping.is_set():
            return
        self._process = self._start()
        self._said_ended = False
        if self.stopping.is_set():
            # The signal came while the child was being made, when there was nobody to pass it on to.
            self._tell(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code, once it has ended; one that was told to stop before it could listen has done so too."""
        code = self._process.wait()
        return DONE if code == -signal.SIGTERM else code

    @contextmanager
    def following_signals(self) -> Iterator[_Child]:
        """The signals that stop the parent stop the child, while the block runs and after it."""
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)
        yield self

    def _start(self) -> subprocess.Popen[bytes]:
        # In a group of its own: Ctrl-C reaches the parent alone, which passes it on once. Two would be a hurry.
        return subprocess.Popen(self._command, env=self._environment, process_group=0)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.stopping.set()
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


if __name__ == "__main__":
    from demucs_server_worker.cli.app import run

    die_with_parent()
    sys.exit(run(["serve", *sys.argv[1:]]))
