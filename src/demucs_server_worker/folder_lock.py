"""One manager a data folder: a lock that the operating system gives up with the process that holds it."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from demucs_server_worker.errors import DataFolderInUse, OutputNotWritable


class FolderLock:
    """Held by the manager that runs on a data folder."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: the data folder; created if missing when the lock is taken."""
        self._folder = folder
        self._lock = FileLock(folder / "manager.lock")
        self._holder = folder / "manager.pid"

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            DataFolderInUse: another manager holds it.
            OutputNotWritable: the folder cannot be made or written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire(timeout=0)
            self._holder.write_text(str(os.getpid()))
        except Timeout:
            raise DataFolderInUse(path=self._folder, pid=self._pid_of_holder()) from None
        except OSError as error:
            raise OutputNotWritable(path=self._folder, detail=(error.strerror or str(error)).lower()) from error

    def release(self) -> None:
        """Give the lock up; does nothing when it is not held."""
        if self._lock.is_locked:
            self._holder.unlink(missing_ok=True)
            self._lock.release()

    def _pid_of_holder(self) -> str:
        try:
            return self._holder.read_text().strip() or "unknown"
        except OSError:
            return "unknown"
