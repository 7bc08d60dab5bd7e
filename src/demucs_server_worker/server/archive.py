"""All stems of a task as one ZIP archive, made while it is sent: nothing of it is ever on disk or whole in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from io import FileIO
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response
from zipstream.ng import ZipStream

from demucs_server_worker.server.answers import BLOCK_BYTES, made_answer
from demucs_server_worker.server.downloads import MEDIA_TYPES, archive_name, attachment
from demucs_server_worker.stem_files import StemFiles, manifest_path, read_manifest
from demucs_server_worker.task import Stem, Task

MANIFEST = "manifest.json"


async def archive_answer(request: Request, task: Task, files: StemFiles) -> Response:
    """The archive: the stems, not compressed again, and the manifest, at the places that it says they have.

    Raises:
        StemGone: a stem is not there any more as it was written.
    """
    with ExitStack() as opened:
        stems = [(stem, opened.enter_context(await files.open(task, stem))) for stem in task.stems]
        manifest = await asyncio.to_thread(read_manifest, task)
        archive = ZipStream(sized=True)
        if manifest is not None:
            archive.add(manifest, MANIFEST)
        for stem, file in stems:
            archive.add(_blocks(file), name_in_archive(task, stem), size=stem.bytes)
        return made_answer(
            request, archive, opened.pop_all(), length=len(archive), etag=_etag(task, manifest),
            media_type=MEDIA_TYPES["zip"],
            headers={"Content-Disposition": attachment(archive_name(task.request.input_name))},
        )  # fmt: skip


def name_in_archive(task: Task, stem: Stem) -> str:
    """The stem's path as the manifest gives it: relative to the manifest's own folder."""
    path = PurePath(stem.path).relative_to(task.request.output_dir)
    folder = manifest_path(task).parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _blocks(file: FileIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _etag(task: Task, manifest: bytes | None) -> str:
    names = [f"{stem.name} {stem.path} {stem.sha256}" for stem in task.stems]
    return hashlib.sha256("\n".join(names).encode() + (manifest or b"")).hexdigest()
