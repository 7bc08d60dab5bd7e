"""`status --watch` on a terminal: a screen that goes on when the server goes away, and is left with q."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from demucs_server_worker.cli import remote
from demucs_server_worker.cli.exits import DONE, SOME_FAILED
from demucs_server_worker.cli.status_view import NEXT_SHOWN, Snapshot, screen
from demucs_server_worker.client import Client, Patience
from demucs_server_worker.errors import DemucsWorkerError, Unauthorized

ASK_SECONDS = 1.0
_KEY_SECONDS = 0.2
# More waiting tasks than this are not asked for by name: the list comes newest first, and the next are at its end.
_MOST_NAMED = 100
# The screen says that there is no answer, and asks again: the client need not.
_IMPATIENT = Patience(tries=1, busy_seconds=0.0)


def watch_screen(url: str | None) -> int:
    """Show the server until the user leaves.

    Returns:
        The exit code: 1 when the server wants another API key.

    Raises:
        InvalidSetting: the address cannot be one.
    """
    with remote.connected(url, _IMPATIENT) as client:
        watcher = Watcher(client)
        console = Console(highlight=False)
        asking = threading.Thread(target=watcher.run, name="asking", daemon=True)
        with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            asking.start()
            try:
                while watcher.refused is None:
                    live.update(screen(watcher.snapshot, console.size.width, console.size.height), refresh=True)
                    if pressed() in ("q", "Q", "\x03", "\x04"):
                        break
            except KeyboardInterrupt:
                pass
            watcher.stop()
    if watcher.refused is not None:
        remote.warn(watcher.refused.message)
        return SOME_FAILED
    return DONE


class Watcher:
    """Asks the server again and again, in a thread of its own, so that keys are heard while it does not answer.

    Attributes:
        snapshot: what is known; replaced as a whole.
        refused: why it is no use to go on.
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: client: of the server; clock: monotonic seconds."""
        self.snapshot = Snapshot(client.url)
        self.refused: Unauthorized | None = None
        self._client = client
        self._clock = clock
        self._lost_at: float | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Ask until stopped."""
        while not self._stopped.is_set() and self.refused is None:
            self.ask()
            self._stopped.wait(ASK_SECONDS)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def ask(self) -> None:
        """Ask once."""
        try:
            status = self._client.status()
            running = {task.id: task for task in self._client.tasks("running", limit=len(status.workers) or 1)}
            few = 0 < status.queue.queued <= _MOST_NAMED
            waiting = list(self._client.tasks("queued", limit=_MOST_NAMED)) if few else []
        except Unauthorized as error:
            self.refused = error
        except DemucsWorkerError as error:
            self._lost_at = self._clock() if self._lost_at is None else self._lost_at
            seconds = self._clock() - self._lost_at
            self.snapshot = replace(self.snapshot, lost=error.message, lost_seconds=seconds)
        else:
            self._lost_at = None
            waiting.sort(key=lambda task: task.queue_position or len(waiting))
            self.snapshot = Snapshot(self.snapshot.url, status, running, waiting[:NEXT_SHOWN])


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """Keys as they are pressed, without a line's end and without being shown; "" where none was for a moment."""
    if not sys.stdin.isatty():
        yield _nothing
        return

    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda: _pressed(terminal)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _nothing() -> str:
    time.sleep(_KEY_SECONDS)
    return ""


def _pressed(terminal: int) -> str:
    ready, _, _ = select.select([terminal], [], [], _KEY_SECONDS)
    return os.read(terminal, 1).decode("latin-1") if ready else ""
