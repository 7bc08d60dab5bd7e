"""Which files in a folder are songs, by their names; which folders hold stems, which are none; a song's hash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Collection
from pathlib import Path

EXTENSIONS = frozenset(
    "aac aif aifc aiff asf flac m4a m4b m4v mka mkv mov mp2 mp3 mp4 oga ogg opus wav wave weba webm wma wmv".split()
)
"""Endings of what is taken from a folder or a pattern. A file that is named itself is taken whatever its ending."""

MANIFEST = "manifest.json"


def is_song(name: str) -> bool:
    """Whether a file of this name is taken for a song."""
    return os.path.splitext(name)[1][1:].lower() in EXTENSIONS


def holds_stems(folder: str, names: Collection[str]) -> bool:
    """Whether a folder, with files of these names, is the result of a task: its sounds are stems, not songs."""
    if MANIFEST not in names:
        return False
    try:
        content = json.loads(Path(folder, MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"manifest", "model", "stems"} <= content.keys()


def sha256_of(path: Path) -> str:
    """The hash of a song's bytes, hexadecimal.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    # Without O_NONBLOCK, opening a named pipe would wait for someone to write into it.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()
