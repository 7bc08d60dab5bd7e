"""Which model a name means at the moment, found out without loading it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.separation.catalogue import locate
from demucs_server_worker.separation.model_files import (
    Member,
    ModelFiles,
    VerifiedFiles,
    WeightFile,
    digest_of,
    hash_file,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_Mark = tuple[str, int, int, int]


class ModelIdentities:
    """Digests of models, as `LoadedModel.digest` has them. Not safe to share between threads."""

    def __init__(self, repo: Path | None) -> None:
        """Args: repo: folder of local models, or None."""
        self._repo = repo
        self._hashes: dict[_Mark, str] = {}

    def digest(self, name: str) -> str | None:
        """The digest of the model that `name` means now; None where it is not on this machine, or cannot be told.

        A file of weights is hashed when it is seen for the first time, and again when its size or date changed.
        """
        try:
            files = locate(name, self._repo)
            return self._digest(files) if files.on_disk else None
        except (DemucsWorkerError, OSError):
            return None  # who separates with it will say what is wrong

    def _digest(self, files: ModelFiles) -> str | None:
        if files.bag is None:
            return None
        found = {each.signature: self._weights(each, each.path) for each in files.members if each.path is not None}
        weights = tuple(found[signature] for signature in files.bag.signatures)
        return digest_of(VerifiedFiles(name=files.name, bag=files.bag, weights=weights))

    def _weights(self, member: Member, path: Path) -> WeightFile:
        if member.checksum is not None and _SHA256.fullmatch(member.checksum):
            # The cache of the hub names files by their hash. One that is damaged is refused by who loads it.
            return WeightFile(member.signature, path, member.checksum)
        stat = os.stat(path)
        mark = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if mark not in self._hashes:
            self._hashes[mark] = hash_file(path)
        return WeightFile(member.signature, path, self._hashes[mark])
