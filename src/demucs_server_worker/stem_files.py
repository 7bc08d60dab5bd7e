"""Stems on disk, opened again: only the files that were written, through no link, unchanged since."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import stat
from collections import OrderedDict
from io import FileIO
from pathlib import PurePath, PurePosixPath

from demucs_server_worker.errors import NoStemsYet, StemGone, StemNotFound
from demucs_server_worker.separation.staging import layout
from demucs_server_worker.task import Stem, Task, TaskState

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a named pipe would wait for someone to write into it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MARKS_KEPT = 10_000
_MANIFEST_BYTES = 1 << 20

_Mark = tuple[int, int, int, int, int]


def completed(task: Task) -> Task:
    """The task itself.

    Raises:
        NoStemsYet: it is not completed.
    """
    if task.state is not TaskState.COMPLETED:
        raise NoStemsYet(task_id=task.id, state=task.state.value)
    return task


def stem_of(task: Task, name: str) -> Stem:
    """A stem of a completed task.

    Raises:
        NoStemsYet: the task is not completed.
        StemNotFound: it has no such stem.
    """
    for stem in completed(task).stems:
        if stem.name == name:
            return stem
    raise StemNotFound(task_id=task.id, stem=name, stems=", ".join(stem.name for stem in task.stems))


def open_below(root: str, path: PurePath) -> FileIO:
    """Open the regular file `path`, relative to the folder `root`; below the root no link is followed.

    Raises:
        OSError: it cannot be opened, is no regular file, or a link stands in the way (ELOOP, ENOTDIR).
    """
    *folders, name = path.parts
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file")
    return FileIO(file)


def manifest_path(task: Task) -> PurePosixPath:
    """Where the manifest of a completed task is, relative to its output folder."""
    request = task.request
    names = [stem.name for stem in task.stems]
    paths = layout(
        names, request.options, input_name=request.input_name, project=request.project_name, ext=request.options.format
    )
    return PurePosixPath(paths.manifest)


def read_manifest(task: Task) -> bytes | None:
    """The manifest of a completed task as it lies on disk; None where it is gone, or no longer that of these stems."""
    try:
        with open_below(task.request.output_dir, manifest_path(task)) as file:
            content = file.read(_MANIFEST_BYTES)
        described = {stem["name"]: stem["sha256"] for stem in json.loads(content)["stems"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if described == {stem.name: stem.sha256 for stem in task.stems} else None


class StemFiles:
    """Opens stems of tasks. A file is hashed when it is opened for the first time, and when anything about it changed.

    Its methods belong to one event loop; the disk is read on other threads.
    """

    def __init__(self) -> None:
        """Begin with nothing checked."""
        self._checked: OrderedDict[_Mark, str] = OrderedDict()

    async def open(self, task: Task, stem: Stem) -> FileIO:
        """The stem's file, open for reading at its beginning; to be closed by the caller.

        Raises:
            StemGone: it is not there, or not what was written.
        """
        file = await asyncio.to_thread(_opened, task, stem)
        try:
            mark = _mark(file)
            if self._checked.get(mark) != stem.sha256:
                if await asyncio.to_thread(_hash, file) != stem.sha256:
                    raise _gone(task, stem, "its content was changed")
                self._remember(mark, stem.sha256)
            return file
        except BaseException:
            file.close()
            raise

    def _remember(self, mark: _Mark, sha256: str) -> None:
        self._checked[mark] = sha256
        self._checked.move_to_end(mark)
        if len(self._checked) > _MARKS_KEPT:
            self._checked.popitem(last=False)


def _opened(task: Task, stem: Stem) -> FileIO:
    try:
        file = open_below(task.request.output_dir, PurePath(stem.path).relative_to(task.request.output_dir))
    except FileNotFoundError:
        raise _gone(task, stem, "its file was removed") from None
    except OSError as error:
        in_the_way = error.errno in (errno.ELOOP, errno.ENOTDIR)
        detail = "a link or a file stands in its place" if in_the_way else "its file cannot be opened"
        raise _gone(task, stem, detail) from error
    if os.fstat(file.fileno()).st_size != stem.bytes:
        file.close()
        raise _gone(task, stem, "its size was changed")
    return file


def _gone(task: Task, stem: Stem, detail: str) -> StemGone:
    return StemGone(task_id=task.id, stem=stem.name, detail=detail)


def _mark(file: FileIO) -> _Mark:
    """What tells a file from another, and from itself after a change."""
    found = os.fstat(file.fileno())
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _hash(file: FileIO) -> str:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest
