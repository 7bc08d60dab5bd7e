"""The stems of an earlier task, given to a later one that would have the same: linked, copied, or encoded again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar

import structlog

from demucs_server_worker.assistant.assistant import Assistant
from demucs_server_worker.assistant.helper import HelperLost
from demucs_server_worker.assistant.messages import Reencode, Reencoded
from demucs_server_worker.errors import DemucsWorkerError, InputUnreadable
from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.result_key import encoding_of, result_key, serves
from demucs_server_worker.separation.identity import ModelIdentities
from demucs_server_worker.separation.job import StemFile
from demucs_server_worker.separation.manifest import write_manifest
from demucs_server_worker.separation.staging import Layout, layout, staged
from demucs_server_worker.settings import Settings
from demucs_server_worker.stem_files import open_below, read_manifest
from demucs_server_worker.task import Completed, Origin, Stem, Task, TaskRequest
from demucs_server_worker.workforce import conditions_of

P = ParamSpec("P")
T = TypeVar("T")

# Earlier tasks that are looked at: those that no longer have their stems stay in the queue's records for a while.
MOST_SOURCES = 4
_BLOCK_BYTES = 1 << 20
# What goes on into the next manifest. It lies in its owner's folder, and its owner may have edited it.
_MANIFEST_KEYS = frozenset({"source", "model", "gain", "residual_db"})

_log = structlog.get_logger("demucs_server_worker.reuse")


class Reuse:
    """Finds stems that a task would have, and puts them into its staging folder. Belongs to one event loop.

    Attributes:
        assistant: encodes stems again; without one, only stems in the format that is asked for are of use.
    """

    def __init__(self, settings: Settings, reader: TaskReader) -> None:
        """Args: settings: of the manager; reader: knows the earlier tasks."""
        self.assistant: Assistant | None = None
        self._settings = settings
        self._reader = reader
        self._models = ModelIdentities(settings.model_repo)
        # Hashing a model's file must not wait for stems that are being copied, nor the other way round.
        self._naming = ThreadPoolExecutor(1, "identity")
        self._copying = ThreadPoolExecutor(2, "reuse")

    def close(self) -> None:
        """Wait for what is being copied."""
        self._naming.shutdown()
        self._copying.shutdown()

    async def sources(self, request: TaskRequest) -> list[Task]:
        """The earlier tasks whose stems may serve this request, the best first. Empty where the song's hash or the
        model is not known before a worker has looked."""
        if request.input_sha256 is None:
            return []
        model = await _on(self._naming, self._models.digest, request.options.model)
        if model is None:
            return []
        key = result_key(request.input_sha256, model, request.options, conditions_of(request.options, self._settings))
        wanted = encoding_of(request.options)
        found = [
            task for task in self._reader.with_result(key, limit=MOST_SOURCES)
            if serves(task.request.options, request.options)
            and (self.assistant is not None or encoding_of(task.request.options) == wanted)
        ]  # fmt: skip
        return sorted(found, key=lambda task: encoding_of(task.request.options) != wanted)

    async def assemble(self, task: Task, staging: Path, sources: Sequence[Task]) -> Completed | None:
        """Fill the staging folder from the first of `sources` whose stems still are what they were.

        Args:
            task: as it was claimed; its request has the hash of the song.
            staging: the folder to make; what cannot be used leaves nothing there.
            sources: as `sources` gave them.

        Returns:
            The outcome; None when no source was of use.
        """
        for source in sources:
            try:
                with staged(staging, Path(task.request.output_dir)):
                    return await _Assembly(task, source, staging, self.assistant, self._copying).run()
            except (DemucsWorkerError, HelperLost, TimeoutError, OSError) as error:
                _log.warning(
                    "stems of an earlier task are of no use", task=task.id, source=source.id, reason=str(error)
                )
        return None


class _Assembly:
    """One task's stems out of another's."""

    def __init__(
        self, task: Task, source: Task, staging: Path, assistant: Assistant | None, threads: ThreadPoolExecutor
    ) -> None:
        self._task = task
        self._source = source
        self._staging = staging
        self._assistant = assistant
        self._threads = threads

    async def run(self) -> Completed:
        request = self._task.request
        manifest = await _on(self._threads, self._manifest)
        stems = self._stems()
        paths = layout(
            [stem.name for stem in stems], request.options, input_name=request.input_name,
            project=request.project_name, ext=request.options.format,
        )  # fmt: skip
        files = [await self._bring(stem, path) for stem, path in zip(stems, paths.stems, strict=True)]
        await _on(self._threads, self._write_manifest, manifest, paths, files)
        return Completed(
            staging=str(self._staging),
            output_dir=request.output_dir,
            files=(*paths.stems, paths.manifest),
            stems=tuple(_published(file, request.output_dir) for file in files),
            duration_seconds=self._source.duration_seconds or files[0].duration_seconds,
            cached=True,
            result_key=self._source.result_key,
        )

    def _stems(self) -> list[Stem]:
        """In the order that was asked for; without one, in that of the model."""
        by_name = {stem.name: stem for stem in self._source.stems}
        return [by_name[name] for name in self._task.request.options.stems or by_name]

    def _manifest(self) -> dict[str, Any]:
        content = read_manifest(self._source)
        if content is None:
            raise InputUnreadable(name="manifest.json", detail="it was removed or changed")
        manifest: dict[str, Any] = json.loads(content)
        if not manifest.keys() >= _MANIFEST_KEYS:
            raise InputUnreadable(name="manifest.json", detail="somebody took parts of it out")
        return manifest

    async def _bring(self, stem: Stem, path: str) -> StemFile:
        request, target = self._task.request, self._staging / path
        await _on(self._threads, _make_folder, target.parent)
        if encoding_of(self._source.request.options) == encoding_of(request.options):
            await _on(self._threads, self._take, stem, target)
            return _described(stem, path)
        if self._assistant is None:
            raise InputUnreadable(name=stem.name, detail="nobody is there to encode it")
        chore = Reencode(
            path=stem.path, sha256=stem.sha256, output=str(target), options=request.options, stem=stem.name,
            samples=round(stem.duration_seconds * stem.sample_rate),
        )  # fmt: skip
        made = await self._assistant.do(chore, Reencoded)
        return StemFile(
            name=stem.name, path=path, format=request.options.format, sample_rate=made.sample_rate,
            channels=made.channels, duration_seconds=made.duration_seconds, bytes=made.bytes, sha256=made.sha256,
            peak=stem.peak,
        )  # fmt: skip

    def _take(self, stem: Stem, target: Path) -> None:
        """The file itself, checked after it is ours, so that it cannot be changed between the two."""
        root = self._source.request.output_dir
        path = PurePath(stem.path).relative_to(root)
        with open_below(root, path) as file:
            if not (self._are_private() and _linked(Path(stem.path), target, file)):
                _copy(file, target)
        with target.open("rb") as taken:
            if hashlib.file_digest(taken, "sha256").hexdigest() != stem.sha256:
                raise InputUnreadable(name=stem.name, detail="it was changed since it was written")

    def _are_private(self) -> bool:
        """Whether nobody but the server writes where both tasks have their stems: an edit of one would change both."""
        return all(task.request.origin is Origin.UPLOAD for task in (self._task, self._source))

    def _write_manifest(self, manifest: dict[str, Any], paths: Layout, files: Sequence[StemFile]) -> None:
        path = self._staging / paths.manifest
        _make_folder(path.parent)
        write_manifest(
            path, root=self._staging, options=self._task.request.options, model=manifest["model"],
            source={**manifest["source"], "name": self._task.request.input_name}, stems=files, gain=manifest["gain"],
            residual_db=manifest["residual_db"],
        )  # fmt: skip


async def _on(threads: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do it on a thread; who is cancelled waits for its end, so that nothing is written after that."""
    future = asyncio.wrap_future(threads.submit(work, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _linked(source: Path, target: Path, opened: FileIO) -> bool:
    """Whether `target` is now another name of the file that is open; not every file system can do that."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    if os.path.samestat(os.lstat(target), os.fstat(opened.fileno())):
        return True
    target.unlink()
    return False


def _copy(file: FileIO, target: Path) -> None:
    with target.open("xb", buffering=0) as copy:
        while block := file.read(_BLOCK_BYTES):
            view = memoryview(block)
            while view:
                view = view[copy.write(view) :]
        os.fsync(copy.fileno())


def _described(stem: Stem, path: str) -> StemFile:
    return StemFile(
        name=stem.name, path=path, format=stem.format, sample_rate=stem.sample_rate, channels=stem.channels,
        duration_seconds=stem.duration_seconds, bytes=stem.bytes, sha256=stem.sha256, peak=stem.peak,
    )  # fmt: skip


def _published(file: StemFile, output_dir: str) -> Stem:
    return Stem(
        name=file.name, path=str(Path(output_dir, file.path)), format=file.format, sample_rate=file.sample_rate,
        channels=file.channels, duration_seconds=file.duration_seconds, bytes=file.bytes, sha256=file.sha256,
        peak=file.peak,
    )  # fmt: skip
