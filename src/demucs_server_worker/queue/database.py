"""A connection to the queue's database: how it is opened, what a transaction is, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from demucs_server_worker.errors import (
    DemucsWorkerError,
    DiskFull,
    OutputNotWritable,
    QueueCorrupt,
    QueueLocked,
    ShuttingDown,
)
from demucs_server_worker.queue.statements import statement

# Longer than the 30 seconds for which a backup program may hold the file.
BUSY_TIMEOUT_SECONDS = 60.0

Value = str | bytes | int | float | None


class Database:
    """One SQLite connection. It belongs to the thread that opened it; SQLite refuses any other.

    Every error of SQLite that a person can act on is raised as an error of this project; a broken constraint is a
    bug and passes through.
    """

    def __init__(self, path: Path, *, read_only: bool = False, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS):
        """Open the database at `path`; unless `read_only`, create it where there is none.

        Raises:
            QueueCorrupt, QueueLocked, DiskFull, OutputNotWritable.
        """
        self.path = path
        self._closed = False
        self._busy_timeout_seconds = busy_timeout_seconds
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        with self._explained():
            self._connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_seconds, isolation_level=None)
            try:
                self._set_up(read_only)
            except BaseException:
                self._connection.close()
                raise

    def _set_up(self, read_only: bool) -> None:
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            self._connection.execute("PRAGMA query_only = ON")
        else:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")

    def check(self) -> None:
        """Read every page once.

        Raises:
            QueueCorrupt: naming the first thing that is wrong.
        """
        with self._explained():
            verdict = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise QueueCorrupt(path=self.path, detail=verdict)

    def all(self, verb: str, **values: Value) -> list[sqlite3.Row]:
        """All rows that the statement `verb` gives."""
        with self._explained():
            return self._connection.execute(statement(verb), values).fetchall()

    def one(self, verb: str, **values: Value) -> sqlite3.Row | None:
        """The first row that the statement `verb` gives, or None."""
        # A statement with RETURNING does its work only once all its rows are read.
        rows = self.all(verb, **values)
        return rows[0] if rows else None

    def change(self, verb: str, **values: Value) -> int:
        """How many rows the statement `verb` changed."""
        with self._explained():
            return self._connection.execute(statement(verb), values).rowcount

    def pragma(self, name: str) -> int:
        """The number that a pragma reads as."""
        with self._explained():
            return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def script(self, text: str) -> None:
        """Run the statements of `text` one by one, inside whatever transaction is open."""
        # sqlite3's own executescript commits first, which would tear a migration from its version number.
        pending = ""
        with self._explained():
            for line in text.splitlines(keepends=True):
                pending += line
                if sqlite3.complete_statement(pending):
                    self._connection.execute(pending)
                    pending = ""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of the block or nothing of it. Once the block is left normally, it is on the disk."""
        with self._explained():
            # IMMEDIATE takes the write lock now: a read that turned into a write later could fail without waiting.
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._explained():
                self._connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled back already, and a broken one may not be able to: the first error counts.
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the connection; the last one to go empties the write-ahead log into the database."""
        self._closed = True
        self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            explained = self._explanation(error)
            if explained is None:
                raise
            raise explained from error

    def _explanation(self, error: sqlite3.DatabaseError) -> DemucsWorkerError | None:
        if self._closed:
            return ShuttingDown()
        # The low byte is the primary result code: https://www.sqlite.org/rescode.html#extrc
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return QueueCorrupt(path=self.path, detail=str(error))
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return QueueLocked(path=self.path, seconds=f"{self._busy_timeout_seconds:g}")
            case sqlite3.SQLITE_FULL:
                return DiskFull(
                    f"The disk that holds {self.path.parent} is full, so nothing was stored. Free some space, then "
                    "try again."
                )
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return OutputNotWritable(path=self.path, detail=str(error))
            case _:
                return None
