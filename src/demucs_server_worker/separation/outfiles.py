"""Opening files for writing so that no link is followed, and saying why one cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from demucs_server_worker.errors import DiskFull, OutputError, OutputNotWritable

_FULL = (errno.ENOSPC, errno.EDQUOT)


def create_file(path: Path) -> int:
    """Create `path`, which must not exist, not even as a link; gives a descriptor for reading and writing.

    Raises:
        DiskFull, OutputNotWritable: see there.
    """
    return _open(path, os.O_CREAT | os.O_EXCL)


def open_file(path: Path) -> int:
    """Open the existing `path`, unless it is a link; gives a descriptor for reading and writing.

    Raises:
        OutputNotWritable: see there.
    """
    return _open(path, 0)


def output_error(path: Path, error: Exception) -> OutputError:
    """What a failed write of `path` means to a caller; names the file, not its folder."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return DiskFull(path=path.name)
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return OutputNotWritable(path=path.name, detail=reason.lower())


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o666)
    except OSError as error:
        raise output_error(path, error) from error
