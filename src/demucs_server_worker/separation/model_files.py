"""The files a model consists of: what a bag says, which weights belong to it, and whether they are what they claim.

A *bag* is one or several *members* whose outputs are averaged; each member is one file of weights, found by its
*signature*. Nothing here imports torch: the command line lists and downloads models with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from demucs_server_worker.errors import ModelCorrupt, ModelError

Source = Literal["package", "hub", "repo"]
Weights = tuple[tuple[float, ...], ...]
HashOf = Callable[[Path], str]
"""The sha256 of a file's content, in hex."""

SAFETENSORS = ".safetensors"
PICKLE = ".th"

# A signature becomes part of a file's name, and on the hub it comes from a stranger: no slash, no leading dot.
_SIGNATURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_MAX_BAG_BYTES = 1 << 20
_MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit


@dataclass(frozen=True)
class Bag:
    """What a `NAME.yaml` says.

    Attributes:
        signatures: the members in order; the same one may stand there twice.
        weights: one row a member, one column a source; None means that all count the same.
        segment: seconds, in place of the members' own; None leaves theirs.
    """

    signatures: tuple[str, ...]
    weights: Weights | None = None
    segment: float | None = None


@dataclass(frozen=True)
class Member:
    """One file of weights.

    Attributes:
        signature: its name.
        path: where it is; None when it is not on this machine.
        checksum: what the sha256 of its content must begin with, in hex; None when nobody says.
    """

    signature: str
    path: Path | None
    checksum: str | None = None


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found by its name, with its bag and its files.

    Attributes:
        name: as it was asked for.
        source: `package` (shipped here), `repo` (a local folder) or `hub` (Hugging Face).
        bag: None for a hub model whose definition is not on this machine yet.
        members: one for each of the bag's signatures, in their order.
    """

    name: str
    source: Source
    bag: Bag | None
    members: tuple[Member, ...]

    @property
    def on_disk(self) -> bool:
        """Whether nothing needs to be fetched."""
        return self.bag is not None and all(member.path is not None for member in self.members)


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that is on disk, with the sha256 of its content, in hex."""

    signature: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class VerifiedFiles:
    """A model whose files are all on disk, each hash computed and compared. `weights` is as long as the bag."""

    name: str
    bag: Bag
    weights: tuple[WeightFile, ...]


def read_bag(model: str, path: Path) -> Bag:
    """Read a bag's definition, in the form that Demucs' own `remote/*.yaml` files have.

    Raises:
        ModelCorrupt: when it is not one, saying what is wrong with it.
    """

    def refuse(detail: str) -> ModelCorrupt:
        return ModelCorrupt(path=path, model=model, detail=detail)

    try:
        if path.stat().st_size > _MAX_BAG_BYTES:
            raise refuse("it is far larger than the definition of a bag")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(model=model, detail=f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise refuse("it is not YAML") from error
    if not isinstance(content, dict) or not isinstance(content.get("models"), list) or not content["models"]:
        raise refuse("it has no list `models`")
    for signature in content["models"]:
        if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
            raise refuse(f"{signature!r} in `models` is not a signature in quotes")
    segment = content.get("segment")
    if segment is not None and not (_is_number(segment) and segment > 0):
        raise refuse(f"`segment` is {segment!r}, not a number of seconds")
    weights = content.get("weights")
    if weights is not None and not _are_weights(weights, len(content["models"])):
        raise refuse("`weights` is not one row of numbers for each of `models`")
    return Bag(
        signatures=tuple(content["models"]),
        weights=None if weights is None else tuple(tuple(row) for row in weights),
        segment=segment,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_weights(weights: object, members: int) -> bool:
    return (
        isinstance(weights, list)
        and len(weights) == members
        and all(isinstance(row, list) and row and all(_is_number(weight) for weight in row) for row in weights)
        and len({len(row) for row in weights}) == 1
    )


def hash_file(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(files: ModelFiles, hash_of: HashOf = hash_file) -> VerifiedFiles:
    """Hash each file of a model once, and compare it with its checksum.

    Args:
        files: all on disk.
        hash_of: tells a file's hash.

    Raises:
        ModelCorrupt: when the content is not the one that the checksum belongs to.
        ModelError: when a file is missing, or cannot be read.
    """
    if files.bag is None:
        raise ModelError(model=files.name, detail="its definition is missing")
    by_signature = {member.signature: member for member in files.members}
    checked = {signature: verify_member(files.name, member, hash_of) for signature, member in by_signature.items()}
    weights = tuple(checked[signature] for signature in files.bag.signatures)
    return VerifiedFiles(name=files.name, bag=files.bag, weights=weights)


def verify_member(model: str, member: Member, hash_of: HashOf = hash_file) -> WeightFile:
    """As `verify`, for one member."""
    if member.path is None:
        raise ModelError(model=model, detail=f"there is no file of weights for {member.signature}")
    try:
        sha256 = hash_of(member.path)
    except OSError as error:
        raise ModelError(model=model, detail=f"{member.path} cannot be read: {error.strerror}") from error
    if member.checksum is not None and not sha256.startswith(member.checksum):
        detail = f"its sha256 begins with {sha256[: len(member.checksum)]}, not {member.checksum}"
        raise ModelCorrupt(path=member.path, model=model, detail=detail)
    return WeightFile(signature=member.signature, path=member.path, sha256=sha256)


def digest_of(files: VerifiedFiles) -> str:
    """sha256 in hex over a model's weights and its bag: the same digest is the same model."""
    content = [[weights.sha256 for weights in files.weights], files.bag.weights, files.bag.segment]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_metadata(model: str, path: Path) -> dict[str, str]:
    """The metadata in the header of a safetensors file, read without loading a tensor.

    The header is 8 bytes of length, little-endian, then JSON (https://github.com/huggingface/safetensors#format).

    Raises:
        ModelCorrupt: when the file is not a safetensors file, or has no metadata.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size):
                raise ModelCorrupt(path=path, model=model, detail="it is not a safetensors file, or cut short")
            header: Any = json.loads(file.read(length))
        metadata = header["__metadata__"]
    except OSError as error:
        raise ModelError(model=model, detail=f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelCorrupt(path=path, model=model, detail="its header is not JSON") from error
    except (KeyError, TypeError) as error:
        raise ModelCorrupt(path=path, model=model, detail="it does not say which model it is") from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelCorrupt(path=path, model=model, detail="its metadata is not a table of texts")
    return metadata


def read_stems(model: str, path: Path) -> tuple[str, ...] | None:
    """The stems that a safetensors file of Demucs separates into; None for a pickle, which is not opened for that.

    Raises:
        ModelCorrupt: as `read_metadata`.
    """
    if path.suffix != SAFETENSORS:
        return None
    metadata = read_metadata(model, path)
    try:
        args, kwargs = json.loads(metadata["args"]), json.loads(metadata["kwargs"])
        sources = kwargs["sources"] if "sources" in kwargs else args[0]
        return tuple(str(source) for source in sources)
    except (KeyError, IndexError, TypeError, ValueError):
        return None
