"""From a model's name to networks that are ready to separate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demucs.apply import BagOfModels
from torch import nn

from demucs_server_worker.errors import ModelError
from demucs_server_worker.separation import hub
from demucs_server_worker.separation.catalogue import locate
from demucs_server_worker.separation.model_files import (
    HashOf,
    VerifiedFiles,
    WeightFile,
    Weights,
    digest_of,
    hash_file,
    verify,
)
from demucs_server_worker.separation.weights import fill, has_weights, skeleton


@dataclass(frozen=True)
class LoadedModel:
    """A model whose members are on the CPU, in eval mode, with no gradients, and read their weights when they must run.

    Attributes:
        name: as it was asked for.
        sources: the names of its stems, in the order of its output.
        sample_rate: in Hz, of the audio it takes and gives.
        channels: of the audio it takes and gives.
        members: the networks whose outputs are averaged; one that the bag names twice is the same object twice. They
            know their rules, and may have no weights: `network` gives them whole.
        weights: one row a member, one column a source, as the bag gives them: not normalised.
        digest: sha256 in hex over its files of weights and its bag: the same digest is the same model.
        files: where the members' weights are, in their order; empty for one that was not loaded from files.
    """

    name: str
    sources: tuple[str, ...]
    sample_rate: int
    channels: int
    members: tuple[nn.Module, ...]
    weights: Weights
    digest: str
    files: tuple[WeightFile, ...] = ()

    def network(self, place: int) -> nn.Module:
        """The member at a place of the bag with its weights, which are read from its file where it has none.

        Raises:
            WeightsChanged: when the file is not the one any more that was there when the model was loaded.
            ModelCorrupt: when it does not load.
            ModelError: when it cannot be read.
        """
        network = self.members[place]
        if not has_weights(network):
            fill(self.name, network, self.files[place])
        return network


def load_model(
    name: str, repo: Path | None = None, *, fetch: bool = True, on_fetch: hub.Progress | None = None,
    hash_of: HashOf = hash_file,
) -> LoadedModel:  # fmt: skip
    """Find a model, verify its files, and build its networks; their weights are read once they are needed.

    Weights are taken as safetensors. Pickles (`.th`), which can carry code, are loaded from `repo` only: whoever
    configured that folder vouches for it. Demucs' old server of pickles is not asked at all, because the eight hex
    digits that are published of each file's hash are too few to trust a pickle by.

    Args:
        name: `demo`; a bag or a signature in `repo`; without `repo`, a name that Demucs publishes, or
            `hf://[namespace/]name`.
        repo: a folder of models, in the form of Demucs' `--repo`.
        fetch: whether to fetch from the hub what is not on this machine.
        on_fetch: told of each piece that arrives: file, bytes done, bytes in all or None.
        hash_of: tells the hash of a file that is on this machine already.

    Raises:
        UnknownModel: when there is no such model.
        ModelUnavailable: when it must be fetched and cannot be.
        ModelCorrupt: when a file is not what its checksum or its name says, or is no model of Demucs.
        ModelError: when it needs a package that is not installed, or its files cannot be read.
        InvalidOption: when `repo` is not a folder.
    """
    files = locate(name, repo)
    if files.source == "hub":
        complete = hub.fetch(files, on_fetch, hash_of) if fetch else hub.checked(files, hash_of)
    else:
        complete = verify(files, hash_of)
    distinct = {weights.signature: weights.path for weights in complete.weights}
    networks = {signature: skeleton(name, path) for signature, path in distinct.items()}
    return _assemble(complete, [networks[weights.signature] for weights in complete.weights])


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
        files=files.weights,
    )
