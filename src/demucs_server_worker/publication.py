"""Stems on their way from the staging folder to their place: by rename, never through a link, safe to do again."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from demucs_server_worker.errors import DiskFull, OutputNotWritable

STAGING_PREFIX = ".demucs-server-worker-"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def staging_path(output_dir: str, task_id: str, claim: int) -> Path:
    """The folder that one claim of a task writes into: beside the destination, so that a rename can publish it."""
    return Path(output_dir) / f"{STAGING_PREFIX}{task_id}-{claim}"


def prepare(output_dir: str, files: Iterable[str]) -> None:
    """Make the folders that `files` (relative to `output_dir`) belong into, before the result is committed.

    Raises:
        OutputNotWritable, DiskFull: when one cannot be made, or a link or a file stands in its place.
    """
    for file in files:
        with _errors(file), _folder_of(output_dir, file) as folder:
            name = PurePosixPath(file).name
            if not os.access(".", os.W_OK, dir_fd=folder):
                raise OutputNotWritable(path=file, detail="no right to write into its folder")
            with suppress(FileNotFoundError):
                if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                    raise OutputNotWritable(path=file, detail="a folder has this name")


def publish(staging: str, output_dir: str, files: Iterable[str]) -> None:
    """Rename `files` from `staging` to below `output_dir`, in order, and remove the staging folder.

    A file that is no longer in the staging folder was moved by an earlier call that did not come to its end.

    Raises:
        OutputNotWritable, DiskFull: when a rename fails.
    """
    for file in files:
        source = Path(staging) / file
        if not source.exists():
            continue
        with _errors(file), _folder_of(output_dir, file) as folder:
            os.replace(source, PurePosixPath(file).name, dst_dir_fd=folder)
            os.fsync(folder)
    discard(staging)


def discard(staging: str | Path) -> None:
    """Remove a staging folder and what is in it, if it is there."""
    shutil.rmtree(staging, ignore_errors=True)


class StagingJournal:
    """Which staging folders are in use, on disk: what a killed manager and its workers left is found by the next."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: where the notes are kept, one file a claim; created if missing."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, task_id: str, claim: int, staging: Path) -> None:
        """Note that the folder `staging` will be written into."""
        self._note(task_id, claim).write_text(str(staging), encoding="utf-8", errors="surrogateescape")

    def close(self, task_id: str, claim: int) -> None:
        """Forget it: it is published or discarded."""
        self._note(task_id, claim).unlink(missing_ok=True)

    def sweep(self, keep: Collection[Path] = ()) -> list[Path]:
        """Discard every folder noted but those to keep, and forget it; gives those that there were. For the start."""
        swept = []
        for note in sorted(self._folder.iterdir()):
            staging = Path(note.read_text(encoding="utf-8", errors="surrogateescape"))
            if staging in keep:
                continue
            if staging.name.startswith(STAGING_PREFIX) and staging.is_dir():
                discard(staging)
                swept.append(staging)
            note.unlink()
        return swept

    def _note(self, task_id: str, claim: int) -> Path:
        return self._folder / f"{task_id}-{claim}"


@contextmanager
def _folder_of(output_dir: str, file: str) -> Iterator[int]:
    """A descriptor of the folder that `file` belongs into; missing folders are made, links below it not followed."""
    os.makedirs(output_dir, exist_ok=True)
    folder = os.open(output_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in PurePosixPath(file).parent.parts:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _errors(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(path=file) from error
        reason = {errno.ELOOP: "a link stands in its way", errno.ENOTDIR: "a file or a link stands in its way"}
        detail = reason.get(error.errno or 0, (error.strerror or str(error)).lower())
        raise OutputNotWritable(path=file, detail=detail) from error
