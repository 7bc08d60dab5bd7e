"""A stem that an earlier separation wrote, opened again: only if it still is what was written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from demucs_server_worker.errors import InputNotFound, InputUnreadable
from demucs_server_worker.separation.decode import Source, source_of
from demucs_server_worker.separation.manifest import sha256_of
from demucs_server_worker.separation.opening import InputFile


def open_finished(path: Path, sha256: str) -> Source:
    """Open a stem for decoding; what is decoded is the file whose hash was taken, whatever takes its place meanwhile.

    Args:
        path: the stem; a link is not followed.
        sha256: of its bytes as they were written, hexadecimal.

    Raises:
        InputNotFound: it is not there any more.
        InputUnreadable: its content is not what was written, or a link stands in its place.
    """
    try:
        file = InputFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "r")
    except FileNotFoundError as error:
        raise InputNotFound(path=path.name) from error
    except OSError as error:
        detail = "a link stands in its place" if error.errno == errno.ELOOP else "it cannot be opened"
        raise InputUnreadable(name=path.name, detail=detail) from error
    try:
        if sha256_of(file) != sha256:
            raise InputUnreadable(name=path.name, detail="it was changed since it was written")
        file.seek(0)
        return source_of(file, path.name)
    except BaseException:
        file.close()
        raise
