"""Files on their way from the server: written beside their place, checked, and moved there. May wait for a disk."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import IO, get_args

from demucs_server_worker.errors import DiskFull, NotOurServer, OutputNotWritable
from demucs_server_worker.options import AudioFormat
from demucs_server_worker.wire.task import TaskBody

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_READ_BYTES = 1024 * 1024
_FULL = {28, 122}  # ENOSPC, EDQUOT


class Part:
    """A file that is not complete yet, under a name of its own beside its place.

    The name has the hash of the whole in it, where that is known: what an earlier run left is then taken up, and never
    mixed with bytes of another file.
    """

    def __init__(self, target: Path, sha256: str | None) -> None:
        """Args: target: its place; sha256: of the whole, where known."""
        self._target = target
        self._sha256 = sha256
        self.path = target.with_name(f".{target.name}.{(sha256 or os.urandom(8).hex())[:16]}.part")
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self.size = 0

    def open(self) -> None:
        """Make it, or go on with what is there. Makes its folder, too."""
        with _told(self._target.parent):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            self._file = os.fdopen(os.open(self.path, flags, 0o666), "r+b")
            while chunk := self._file.read(_READ_BYTES):
                self._take(chunk)

    def write(self, chunk: bytes) -> None:
        """More of it."""
        with _told(self._target.parent):
            self._open_file.write(chunk)
        self._take(chunk)

    def flush(self) -> None:
        """So that others can read what has come."""
        with _told(self._target.parent):
            self._open_file.flush()

    def restart(self) -> None:
        """From its beginning."""
        self._open_file.seek(0)
        self._open_file.truncate()
        self._hash, self.size = hashlib.sha256(), 0

    def finish(self, sha256: str | None) -> bool:
        """Move it to its place, where it replaces what was there; False, and nothing moved, if it has another hash."""
        if sha256 is not None and self._hash.hexdigest() != sha256:
            return False
        with _told(self._target.parent):
            self._open_file.flush()
            os.fsync(self._open_file.fileno())
            self._open_file.close()
            os.replace(self.path, self._target)
        self._file = None
        return True

    def leave(self, *, for_later: bool) -> None:
        """Stop; keep what has come if another run can go on with it."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self._sha256 is None or not for_later or self.size == 0:
            self.path.unlink(missing_ok=True)

    @property
    def _open_file(self) -> IO[bytes]:
        assert self._file is not None  # noqa: S101 - its users open it first
        return self._file

    def _take(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)


class _told:
    """Errors of the disk as ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            if error.errno in _FULL:
                raise DiskFull(path=self._folder) from None
            raise OutputNotWritable(path=self._folder, detail=error.strerror or str(error)) from None


def has_hash(path: Path, sha256: str) -> bool:
    """Whether the file at `path` is there and has that hash."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def is_whole_zip(path: Path) -> bool:
    """Whether every file in an archive has the checksum that the archive gives it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False


def stem_file(name: str, format: str, server_url: str) -> str:
    """The name of a stem's file.

    Raises:
        NotOurServer: the server gave a name that no stem of ours has, such as a path.
    """
    if not _NAME.fullmatch(name) or format not in get_args(AudioFormat):
        raise NotOurServer(url=server_url, detail="it names a stem as no stem is named")
    return f"{name}.{format}"


def zip_file(task: TaskBody) -> str:
    """The name of an archive of a task's stems: that of its song where it is plain enough, else its id."""
    song = re.split(r"[/\\]", task.input_name)[-1].rpartition(".")[0] or task.input_name
    plain = "".join(char for char in song if char.isalnum() or char in " -_()[]&',+.").strip(" .-_")
    usable = plain and len(plain.encode()) <= 200
    return f"{plain if usable else task.id}.zip"


def checked_hash(sha256: str, server_url: str) -> str:
    """The hash, if it is one: it becomes a part of a file's name.

    Raises:
        NotOurServer: it is none.
    """
    if not _SHA256.fullmatch(sha256):
        raise NotOurServer(url=server_url, detail="it gives a stem a hash that is none")
    return sha256


def hash_in(etag: str) -> str | None:
    """The hash that a tag is; None for another tag."""
    bare = etag.removeprefix('"').removesuffix('"')
    return bare if len(bare) + 2 == len(etag) and _SHA256.fullmatch(bare) else None


def checked_id(task_id: str, server_url: str) -> str:
    """The id, if it can be a part of a file's name. Raises: as `checked_hash`."""
    if not _ID.fullmatch(task_id):
        raise NotOurServer(url=server_url, detail="it gives a task an id that is none")
    return task_id
