"""Uploaded songs on disk: each in a private folder of its own, whole and durable, or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from demucs_server_worker.errors import DiskFull
from demucs_server_worker.queue.reader import Page
from demucs_server_worker.server.folders import RESULTS, UPLOADS, UploadFolders, folders_for, folders_of

P = ParamSpec("P")
T = TypeVar("T")

# What comes over the network in pieces of some ten kilobytes goes to the disk in pieces of this size.
WRITE_BYTES = 1024 * 1024
# Threads that write and wait for the disk.
WRITERS = 4
# Left free beside an upload, for the queue's database and the stems.
RESERVE_BYTES = 32 * 1024 * 1024

_PAGE = 500
_FULL = (errno.ENOSPC, errno.EDQUOT)

_log = structlog.get_logger("demucs_server_worker.server")


async def sweep_uploads(store: UploadStore, list_tasks: Callable[..., Page]) -> None:
    """At the start: remove the uploads that no task has, which a crash left. Args: list_tasks: as the manager's."""
    kept: list[UploadFolders] = []
    cursor: int | None = None
    while True:
        page = list_tasks(limit=_PAGE, cursor=cursor)
        kept += [folders for task in page.tasks if (folders := folders_of(task, store.data_dir)) is not None]
        cursor = page.cursor
        if cursor is None:
            break
        await asyncio.sleep(0)
    for folder in await store.sweep(kept):
        _log.warning("folder of an upload removed that no task has", folder=str(folder))


class UploadStore:
    """The uploads of one data folder. Its methods belong to one event loop; the disk is waited for in threads."""

    def __init__(self, data_dir: Path) -> None:
        """Args: data_dir: the data folder; both folders for uploads are made when first needed."""
        self.data_dir = data_dir
        self._threads = ThreadPoolExecutor(WRITERS, "uploads")

    async def begin(self, expected_bytes: int | None) -> Incoming:
        """Make a folder for an upload.

        Args:
            expected_bytes: what is to come, where that is known.

        Raises:
            DiskFull: there is no room for it.
        """
        folders = folders_for(self.data_dir, uuid.uuid4().hex)
        incoming = Incoming(folders, self._on_thread)
        try:
            await self._on_thread(incoming.open, expected_bytes or 0)
        except BaseException:
            await incoming.discard()
            raise
        return incoming

    async def discard(self, folders: UploadFolders) -> None:
        """Remove an upload and its results. Carried out even if the caller is cancelled."""
        await asyncio.shield(self._on_thread(_remove, folders.upload, folders.results))

    async def sweep(self, kept: Collection[UploadFolders]) -> list[Path]:
        """Remove every upload and result that is not among `kept`: what crashes left. Gives what there was."""
        return await self._on_thread(_sweep, self.data_dir, {path for f in kept for path in (f.upload, f.results)})

    def close(self) -> None:
        """Wait for what is being written."""
        self._threads.shutdown()

    def _on_thread(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return asyncio.wrap_future(self._threads.submit(verb, *args, **kwargs))


OnThread = Callable[..., "asyncio.Future[None]"]


class Incoming:
    """A song that is being received."""

    def __init__(self, folders: UploadFolders, on_thread: OnThread) -> None:
        """Args: folders: to be made; on_thread: runs a function where it may wait for the disk."""
        self.folders = folders
        self.bytes = 0
        self._on_thread = on_thread
        self._hash = hashlib.sha256()
        self._waiting = bytearray()
        self._fd: int | None = None
        self._discarded = False
        # Between a thread that still writes for a caller who was cancelled, and the one that then discards.
        self._lock = threading.Lock()

    @property
    def sha256(self) -> str:
        """Hash of what was written, hexadecimal."""
        return self._hash.hexdigest()

    async def write(self, data: bytes) -> None:
        """Take the next piece of the song.

        Raises:
            DiskFull: there is no room for it.
        """
        self.bytes += len(data)
        self._waiting += data
        if len(self._waiting) >= WRITE_BYTES:
            await self._flush()

    async def seal(self) -> None:
        """The song is whole: when this returns, it and its name survive a power cut.

        Raises:
            DiskFull: there is no room for it.
        """
        await self._flush()
        await self._on_thread(self._make_durable)

    async def discard(self) -> None:
        """Remove what there is. Carried out even if the caller is cancelled."""
        await asyncio.shield(self._on_thread(self._remove))

    async def _flush(self) -> None:
        piece, self._waiting = self._waiting, bytearray()
        await self._on_thread(self._append, piece)

    # --- on a thread --------------------------------------------------------------------------------------------------

    def open(self, expected_bytes: int) -> None:
        """Make the folder and the file in it."""
        with self._lock, _Full():
            if self._discarded:
                return
            uploads = self.folders.upload.parent
            for folder in (uploads, self.folders.results.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(uploads).free < expected_bytes + RESERVE_BYTES:
                raise OSError(errno.ENOSPC, "no room")
            self.folders.upload.mkdir(mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self.folders.song, flags, 0o600)

    def _append(self, piece: bytearray) -> None:
        with self._lock, _Full(), memoryview(piece) as view:
            if self._fd is None:
                return
            self._hash.update(view)
            at = 0
            while at < len(view):
                at += os.write(self._fd, view[at:])

    def _make_durable(self) -> None:
        with self._lock, _Full():
            if self._fd is None:
                return
            fd, self._fd = self._fd, None
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            for folder in (self.folders.upload, self.folders.upload.parent):
                _sync_folder(folder)

    def _remove(self) -> None:
        with self._lock:
            self._discarded = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            _remove(self.folders.upload)


class _Full:
    """A full disk becomes an error that a client can be told."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise DiskFull("The server's disk is full, so nothing of the upload was kept. Try again later.") from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(data_dir: Path, kept: Collection[Path]) -> list[Path]:
    swept = []
    for parent in (data_dir / UPLOADS, data_dir / RESULTS):
        if parent.is_dir():
            swept += [folder for folder in sorted(parent.iterdir()) if folder not in kept]
    _remove(*swept)
    return swept
