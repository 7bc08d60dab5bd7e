"""The file beside the stems that says how they came to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.job import StemFile

MANIFEST_VERSION = 1
_HASH_BLOCK_BYTES = 1 << 20


def write_manifest(
    path: Path, *, options: SeparationOptions, model: Mapping[str, Any], source: Mapping[str, Any],
    stems: Sequence[StemFile], gain: float, residual_db: float | None,
) -> None:  # fmt: skip
    """Write `path`, which must not exist.

    Args:
        path: the file.
        options: as asked for, defaults included.
        model: name, digest of the weights, members that ran.
        source: name, rate, channels, length, codec, hash of the song.
        stems: as written; each appears with its path relative to the manifest's folder, where it lies below it.
        gain: applied to all stems.
        residual_db: energy of mix minus the sum of the stems against the mix, dB, or None.
    """
    content = {
        "manifest": MANIFEST_VERSION,
        "source": dict(source),
        "model": dict(model),
        "options": {name: msgspec.to_builtins(getattr(options, name)) for name in options.__struct_fields__},
        "gain": gain,
        "residual_db": None if residual_db is None else round(residual_db, 2),
        "stems": [asdict(stem) for stem in stems],
    }
    with path.open("x", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
