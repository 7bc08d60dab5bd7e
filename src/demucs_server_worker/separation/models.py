"""From a model's name to modules that are ready to separate."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demucs.apply import BagOfModels
from demucs.hf import load_safetensors_model
from demucs.states import load_model as load_package
from safetensors import safe_open
from torch import nn

from demucs_server_worker.errors import DemucsWorkerError, ModelCorrupt, ModelError
from demucs_server_worker.separation import hub
from demucs_server_worker.separation.catalogue import locate
from demucs_server_worker.separation.model_files import (
    PICKLE,
    VerifiedFiles,
    WeightFile,
    Weights,
    digest_of,
    verify,
)

# A safetensors file names a Python class, and Demucs' loader imports whatever it names. These are all that it may name.
_NETWORKS = frozenset(
    {
        "demucs.demucs.Demucs",
        "demucs.hdemucs.HDemucs",
        "demucs.htdemucs.HTDemucs",
        "demucs.wdemucs.WDemucs",
    }
)
_QUANTIZERS = frozenset(
    {
        "diffq.diffq.DiffQuantizer",
        "diffq.uniform.UniformQuantizer",
    }
)
_NEEDS_DIFFQ = "its weights are quantised, which needs a package that is not installed: pip install diffq"


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, on the CPU, in eval mode, with no gradients.

    Attributes:
        name: as it was asked for.
        sources: the names of its stems, in the order of its output.
        sample_rate: in Hz, of the audio it takes and gives.
        channels: of the audio it takes and gives.
        members: the networks whose outputs are averaged; one that the bag names twice is the same object twice.
        weights: one row a member, one column a source, as the bag gives them: not normalised.
        digest: sha256 in hex over its files of weights and its bag: the same digest is the same model.
    """

    name: str
    sources: tuple[str, ...]
    sample_rate: int
    channels: int
    members: tuple[nn.Module, ...]
    weights: Weights
    digest: str


def load_model(
    name: str, repo: Path | None = None, *, fetch: bool = True, on_fetch: hub.Progress | None = None
) -> LoadedModel:
    """Load a model into memory.

    Weights are taken as safetensors. Pickles (`.th`), which can carry code, are loaded from `repo` only: whoever
    configured that folder vouches for it. Demucs' old server of pickles is not asked at all, because the eight hex
    digits that are published of each file's hash are too few to trust a pickle by.

    Args:
        name: `demo`; a bag or a signature in `repo`; without `repo`, a name that Demucs publishes, or
            `hf://[namespace/]name`.
        repo: a folder of models, in the form of Demucs' `--repo`.
        fetch: whether to fetch from the hub what is not on this machine.
        on_fetch: told of each piece that arrives: file, bytes done, bytes in all or None.

    Raises:
        UnknownModel: when there is no such model.
        ModelUnavailable: when it must be fetched and cannot be.
        ModelCorrupt: when a file is not what its checksum or its name says, or is no model of Demucs.
        ModelError: when it needs a package that is not installed, or its files cannot be read.
        InvalidOption: when `repo` is not a folder.
    """
    files = locate(name, repo)
    if files.source == "hub":
        complete = hub.fetch(files, on_fetch) if fetch else hub.checked(files)
    else:
        complete = verify(files)
    networks = {weights.signature: _load_weights(name, weights.path) for weights in _distinct(complete)}
    return _assemble(complete, [networks[weights.signature] for weights in complete.weights])


def _distinct(files: VerifiedFiles) -> list[WeightFile]:
    return list({weights.signature: weights for weights in files.weights}.values())


def _load_weights(model: str, path: Path) -> nn.Module:
    with _as_model_error(model, path):
        if path.suffix == PICKLE:
            network: object = load_package(path)  # type: ignore[no-untyped-call]
        else:
            _check_classes(model, path)
            network = load_safetensors_model(path)
    if not isinstance(network, nn.Module):
        raise ModelCorrupt(path=path, model=model, detail="it does not hold a network")
    return network.eval().requires_grad_(False)


@contextmanager
def _as_model_error(model: str, path: Path) -> Iterator[None]:
    """Turn whatever Demucs, torch or a pickle raise over a bad file into an error of ours."""
    try:
        yield
    except (DemucsWorkerError, MemoryError):
        raise
    except SystemExit as error:  # Demucs ends the whole process where diffq is missing
        raise ModelError(model=model, detail=_NEEDS_DIFFQ) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        detail = _NEEDS_DIFFQ if package == "diffq" else f"it needs the package {package}, which is not installed"
        raise ModelError(model=model, detail=detail) from error
    except OSError as error:
        raise ModelError(model=model, detail=f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:
        detail = f"it does not load ({type(error).__name__}: {_first_line(error)})"
        raise ModelCorrupt(path=path, model=model, detail=detail) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0].rstrip(".")


def _check_classes(model: str, path: Path) -> None:
    """Refuse a file whose metadata would have anything imported but a network of Demucs or a quantiser of diffq."""
    # Read by the same parser that the loader uses, so that the two cannot understand a file differently.
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    network = metadata.get("klass")
    if network not in _NETWORKS:
        detail = f"it wants to be loaded as {network}, which is not a network of Demucs"
        raise ModelCorrupt(path=path, model=model, detail=detail)
    if "structure" not in metadata:
        return
    classes = set(_classes_in(json.loads(metadata["structure"])))
    if strangers := sorted(classes - _QUANTIZERS):
        raise ModelCorrupt(path=path, model=model, detail=f"it wants to import {strangers[0]}")
    if classes and importlib.util.find_spec("diffq") is None:
        raise ModelError(model=model, detail=_NEEDS_DIFFQ)


def _classes_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_class" in node:
            yield str(node["_class"])
        for value in node.values():
            yield from _classes_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from _classes_in(value)


def _assemble(files: VerifiedFiles, networks: list[Any]) -> LoadedModel:
    """Check that the members fit together, and put the bag's segment on them, as Demucs' own bag does."""
    bag = files.bag
    weights = None if bag.weights is None else [list(row) for row in bag.weights]
    try:
        together = BagOfModels(networks, weights, bag.segment)
    except (AssertionError, AttributeError) as error:
        detail = "its members differ in stems, sample rate or channels, or the weights do not fit them"
        raise ModelError(model=files.name, detail=detail) from error
    return LoadedModel(
        name=files.name,
        sources=tuple(together.sources),
        sample_rate=int(together.samplerate),
        channels=int(together.audio_channels),
        members=tuple(networks),
        weights=tuple(tuple(float(weight) for weight in row) for row in together.weights),
        digest=digest_of(files),
    )
