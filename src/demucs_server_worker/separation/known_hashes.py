"""Hashes of large files that were hashed before, kept on disk: each worker that starts would hash them again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

from demucs_server_worker.separation.model_files import hash_file

# A smaller file is hashed in less time than it takes to look it up and to keep its record.
LEAST_BYTES = 4_000_000
# File systems stamp times in steps of up to two seconds (FAT): a file changed that recently may change unseen.
SETTLED_SECONDS = 2.5

_Mark = list[str | int]


class KnownHashes:
    """A folder of records, one a file, shared by all workers of a user.

    A record holds while path, device, inode, size and both times of its file stay. The time of the last change of the
    inode is the kernel's: no program sets it back. What no stamp shows, as a failing disk, is not noticed here, so that
    whoever computes with the content hashes it once more.
    """

    def __init__(self, folder: Path) -> None:
        """Args: folder: made when the first record is."""
        self._folder = folder

    def hash_of(self, path: Path) -> str:
        """The sha256 of a file's content, in hex: as it was found before if the file has not been touched since.

        Raises:
            OSError: when it cannot be read.
        """
        before = _mark(path)
        if int(before[3]) < LEAST_BYTES:
            return hash_file(path)
        known = self._recall(path, before)
        if known is not None:
            return known
        sha256 = hash_file(path)
        if _mark(path) == before and time.time() - os.stat(path).st_ctime > SETTLED_SECONDS:
            self._keep(path, before, sha256)
        return sha256

    def forget(self, path: Path) -> None:
        """Have a file hashed when it is asked for next."""
        try:
            self._record(path).unlink(missing_ok=True)
        except OSError:
            pass  # a cache that is read-only

    def _recall(self, path: Path, mark: _Mark) -> str | None:
        try:
            record = json.loads(self._record(path).read_text(encoding="utf-8"))
            return str(record["sha256"]) if record["mark"] == mark else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, path: Path, mark: _Mark, sha256: str) -> None:
        """Atomically, since others may read it; a cache that cannot be written costs time and nothing else."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".new", delete=False) as file:
                json.dump({"mark": mark, "sha256": sha256}, file)
            os.replace(file.name, self._record(path))
        except OSError:
            pass

    def _record(self, path: Path) -> Path:
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _mark(path: Path) -> _Mark:
    stat = os.stat(path)
    return [str(path.absolute()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
