"""The folder that a separation writes into, beside the destination, and the paths of its files."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from demucs_server_worker.errors import DiskFull, OutputError, OutputNotWritable
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.naming import stem_path, track_name

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Layout:
    """The relative paths of what one separation writes."""

    stems: tuple[str, ...]
    manifest: str


def layout(
    names: Sequence[str], options: SeparationOptions, *, input_name: str, project: str | None, ext: str
) -> Layout:
    """Fill the template for each stem, and put the manifest beside them.

    The manifest stands in the folder that all stems are below. Where songs share that folder (no `{track}` in it), it
    bears the song's name.

    Args:
        names: of the stems.
        options: the template and the model's name.
        input_name: of the song, with its extension.
        project: for `{project}`.
        ext: of the stems' files, without dot.
    """
    track, trackext = track_name(input_name)

    def fill(template: str, stem: str, ext: str) -> str:
        return stem_path(
            template, project=project, track=track, trackext=trackext, stem=stem, ext=ext, model=options.model
        )

    folders = PurePosixPath(options.filename).parent.parts
    shared = list(takewhile(lambda part: "{stem}" not in part, folders))
    own_folder = any("{track}" in part for part in shared)
    template = "/".join([*shared, "{stem}.{ext}" if own_folder else "{track}.{stem}.{ext}"])
    stem, _, manifest_ext = MANIFEST.partition(".")
    return Layout(
        stems=tuple(fill(options.filename, name, ext) for name in names),
        manifest=fill(template, stem, manifest_ext),
    )


@contextmanager
def staged(staging: Path, output_dir: Path) -> Iterator[None]:
    """Create both folders for the block; when it raises, the staging folder is removed.

    Raises:
        OutputNotWritable, DiskFull: when a folder cannot be created, or the block raises an OSError of that kind.
    """
    with output_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
        staging.mkdir()  # never one that exists: it would be somebody else's
    try:
        with output_errors(output_dir):
            yield
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into the error that says what to do about `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(error, path) from error


def output_error(error: OSError, path: Path) -> OutputError:
    """The error that stands for `error`, met while writing below `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(path=path.name or path)
    return OutputNotWritable(path=path, detail=(error.strerror or str(error)).lower())
