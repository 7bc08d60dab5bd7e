"""What is made of stems on request, kept as long as there is room: other formats, and peaks."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import structlog

from demucs_server_worker.assistant.assistant import Assistant
from demucs_server_worker.assistant.helper import HelperLost
from demucs_server_worker.assistant.messages import Draw, Drawn, Reencode, Reencoded
from demucs_server_worker.errors import (
    AssistantFailed,
    DiskFull,
    InputNotFound,
    InputUnreadable,
    NotReady,
    OutputNotWritable,
    StemGone,
)
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.result_key import encoding_of
from demucs_server_worker.task import Stem, Task

FOLDER = "derived"
# Files that are being made at the same time; only a client that asks for everything at once gets that far.
MOST_AT_ONCE = 64

_BUSY = "As many stems as the server takes at a time are being encoded. Try again in a moment."

_log = structlog.get_logger("demucs_server_worker.derived")


@dataclass(frozen=True)
class DerivedFile:
    """A file of the cache, open at its beginning, and the hash of its content."""

    file: FileIO
    sha256: str


class Derived:
    """The files made of stems, in one folder a task. Each is made once, however many ask for it at the same time.

    All methods belong to one event loop.
    """

    def __init__(self, folder: Path, assistant: Assistant, *, most_bytes: int) -> None:
        """Args: folder: of all of them; assistant: makes them; most_bytes: past it, those asked for least lately go."""
        self._folder = folder
        self._assistant = assistant
        self._most_bytes = most_bytes
        self._making: dict[Path, asyncio.Task[Path]] = {}

    def discard_halves(self) -> None:
        """Remove what was being written when the server was killed. For the start; it looks at the disk."""
        for half in self._folder.glob("*/.*"):
            half.unlink(missing_ok=True)

    async def encoded(self, task: Task, stem: Stem, options: SeparationOptions) -> DerivedFile:
        """The stem in the format of `options`.

        Raises:
            StemGone: the stem is not there any more as it was written.
            NotReady, AssistantFailed, DiskFull, OutputNotWritable: it cannot be made now.
        """
        key = _key(stem.sha256, *encoding_of(options))

        async def make(output: Path) -> str:
            chore = Reencode(
                path=stem.path, sha256=stem.sha256, output=str(output), options=options, stem=stem.name,
                samples=samples_of(stem),
            )  # fmt: skip
            return (await self._assistant.do(chore, Reencoded)).sha256

        return await self._take(task, stem, key, make)

    async def peaks(self, task: Task, stem: Stem, points: int) -> DerivedFile:
        """The stem's peaks, as `separation.peaks` writes them.

        Raises:
            As `encoded`.
        """

        async def make(output: Path) -> str:
            chore = Draw(
                path=stem.path, sha256=stem.sha256, output=str(output), points=points, samples=samples_of(stem)
            )
            return (await self._assistant.do(chore, Drawn)).sha256

        return await self._take(task, stem, _key(stem.sha256, "peaks", str(points)), make)

    def forget(self, task_id: str) -> None:
        """Remove what was made of a task's stems. It looks at the disk."""
        shutil.rmtree(self._folder / task_id, ignore_errors=True)

    def folders(self) -> list[Path]:
        """One for each task of whose stems something was made, named by its id."""
        return list(self._folder.iterdir()) if self._folder.is_dir() else []

    async def stop(self) -> None:
        """Give up what is being made."""
        making = list(self._making.values())
        for each in making:
            each.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _take(self, task: Task, stem: Stem, key: str, make: Callable[[Path], Awaitable[str]]) -> DerivedFile:
        place = self._folder / task.id / key
        for _ in range(2):
            path = await asyncio.to_thread(_find, place) or await self._made(task, stem, place, make)
            with suppress(FileNotFoundError):  # swept since it was found
                return await asyncio.to_thread(_open, path)
        raise NotReady(_BUSY)

    async def _made(self, task: Task, stem: Stem, place: Path, make: Callable[[Path], Awaitable[str]]) -> Path:
        if place not in self._making:
            if len(self._making) >= MOST_AT_ONCE:
                raise NotReady(_BUSY)
            making = asyncio.create_task(self._make(task, stem, place, make), name=f"derive {place.name}")
            self._making[place] = making
            making.add_done_callback(lambda done: self._forget_making(place, done))
        # A client that leaves does not take it from the others.
        return await asyncio.shield(self._making[place])

    def _forget_making(self, place: Path, done: asyncio.Task[Path]) -> None:
        del self._making[place]
        if not done.cancelled():
            done.exception()  # whoever waited has it

    async def _make(self, task: Task, stem: Stem, place: Path, make: Callable[[Path], Awaitable[str]]) -> Path:
        output = place.with_name(f".{uuid.uuid4().hex}")
        try:
            await asyncio.to_thread(_make_private, place.parent)
            sha256 = await make(output)
            path = place.with_name(f"{place.name}-{sha256}")
            await asyncio.to_thread(os.replace, output, path)
        except (InputNotFound, InputUnreadable) as error:
            raise StemGone(task_id=task.id, stem=stem.name, detail="its file was removed or changed") from error
        except FileNotFoundError as error:
            raise StemGone(task_id=task.id, stem=stem.name, detail="its task was deleted") from error
        except (HelperLost, TimeoutError) as error:
            raise AssistantFailed(detail=str(error) or "it took too long") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(path=FOLDER) from error
            raise OutputNotWritable(path=FOLDER, detail=(error.strerror or str(error)).lower()) from error
        finally:
            output.unlink(missing_ok=True)
        for gone in await asyncio.to_thread(sweep, self._folder, self._most_bytes, path):
            _log.debug("made room for other files", file=gone.name)
        return path


def samples_of(stem: Stem) -> int:
    """How many samples a channel of a stem has."""
    return round(stem.duration_seconds * stem.sample_rate)


def sweep(folder: Path, most_bytes: int, keep: Path | None = None) -> list[Path]:
    """Remove the files that were asked for least lately until the others take at most `most_bytes`.

    Args:
        folder: of all files.
        most_bytes: for all of them.
        keep: one that is to stay in any case.

    Returns:
        Those that were removed.
    """
    found = []
    for path in folder.glob("*/*"):
        with suppress(OSError):
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, path))
    removed: list[Path] = []
    taken = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if taken <= most_bytes:
            break
        if path != keep and not path.name.startswith("."):  # those are being written
            path.unlink(missing_ok=True)
            removed.append(path)
            taken -= size
    return removed


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _find(place: Path) -> Path | None:
    """The file of the cache whose name begins so."""
    return next(iter(place.parent.glob(f"{place.name}-*")), None)


def _open(path: Path) -> DerivedFile:
    file = FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    with suppress(OSError):
        os.utime(path)  # it was asked for now
    return DerivedFile(file, path.name.partition("-")[2])


def _make_private(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
