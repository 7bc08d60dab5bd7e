"""The file beside the stems that says how they came to be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.job import StemFile

MANIFEST_VERSION = 1
_HASH_BLOCK_BYTES = 1 << 20


def write_manifest(
    path: Path, *, root: Path, options: SeparationOptions, model: Mapping[str, Any], source: Mapping[str, Any],
    stems: Sequence[StemFile], gain: float, residual_db: float | None,
) -> None:  # fmt: skip
    """Write `path`, which must not exist.

    Args:
        path: the file.
        root: the folder that the stems' paths are relative to.
        options: as asked for, defaults included.
        model: name, digest of the weights, members that ran.
        source: name, rate, channels, length, codec, hash of the song.
        stems: as written; in the manifest their paths are relative to its own folder, so that both can move together.
        gain: applied to all stems.
        residual_db: energy of mix minus the sum of the stems against the mix, dB, or None.
    """
    folder = path.parent.relative_to(root)
    content = {
        "manifest": MANIFEST_VERSION,
        "source": dict(source),
        "model": dict(model),
        "options": {name: msgspec.to_builtins(getattr(options, name)) for name in options.__struct_fields__},
        "gain": gain,
        "residual_db": None if residual_db is None else round(residual_db, 2),
        "stems": [{**asdict(stem), "path": Path(stem.path).relative_to(folder).as_posix()} for stem in stems],
    }
    with path.open("x", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def sha256_of(file: Path | FileIO) -> str:
    """The hash of a file's bytes, hexadecimal; of an open file, from where it stands."""
    if isinstance(file, Path):
        with file.open("rb", buffering=0) as opened:
            return sha256_of(opened)
    digest = hashlib.sha256()
    while block := file.read(_HASH_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
