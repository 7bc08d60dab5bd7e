"""Models with seeded random weights, in the architectures that Demucs publishes: the compute is real, the sound is not.

Networks are initialised as Demucs initialises them before training, with the DConv branches' scale raised from 1e-3 or
less to 0.1, so that every part of a network shows in its output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file
from torch import nn

from bench.paths import MODELS

Form = Literal["safetensors", "th"]

SOURCES = ["drums", "bass", "other", "vocals"]
HTDEMUCS_PARAMETERS = 41_984_456
FINE_TUNED_WEIGHTS = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
FINE_TUNED_SIGNATURES = ["f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"]


def htdemucs(seed: int = 0) -> nn.Module:
    """The architecture that Demucs publishes as `htdemucs` (955717e8): 41,984,456 parameters, 7.8 s segments.

    Its settings are those of Demucs' training grid `grids/mmi.py` with five layers and 512 bottom channels.
    """
    return seeded(
        seed,
        HTDemucs,
        sources=SOURCES,
        audio_channels=2,
        channels=48,
        growth=2,
        nfft=4096,
        depth=4,
        dconv_mode=3,
        dconv_init=0.1,
        bottom_channels=512,
        t_layers=5,
        t_heads=8,
        t_dropout=0.02,
        segment=Fraction(39, 5),
        samplerate=44100,
    )


def seeded(seed: int, klass: type[nn.Module], **kwargs: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return klass(**kwargs).eval()


def save_member(folder: Path, signature: str, network: nn.Module, form: Form = "safetensors", **kwargs: Any) -> Path:
    """Write a network as one file of weights.

    `th` is the package that Demucs' own training writes; `safetensors` is what it publishes on Hugging Face.

    Args:
        form: which of the two.
        kwargs: `checksum=True` puts the first eight digits of the file's hash into its name, `half=True` stores half
            precision.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{signature}.{form}"
    dtype = torch.float16 if kwargs.get("half") else torch.float32
    state = {name: value.detach().clone().to(dtype).contiguous() for name, value in network.state_dict().items()}
    args, init = network._init_args_kwargs
    if form == "th":
        torch.save({"klass": type(network), "args": args, "kwargs": init, "state": state, "training_args": {}}, path)
    else:
        save_file(state, path, metadata=metadata_of(network))
        _order_metadata(path)
    if kwargs.get("checksum"):
        return path.rename(folder / f"{signature}-{sha256(path.read_bytes()).hexdigest()[:8]}.{form}")
    return path


def _order_metadata(path: Path) -> None:
    """safetensors writes them in an order of chance: the same network is to be the same file, by which conversions are
    found again."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))


def metadata_of(network: nn.Module) -> dict[str, str]:
    """The metadata that Demucs' loader wants in a safetensors file."""
    args, kwargs = network._init_args_kwargs
    klass = type(network)
    return {
        "klass": f"{klass.__module__}.{klass.__qualname__}",
        "args": json.dumps(list(args), default=_fraction),
        "kwargs": json.dumps(kwargs, default=_fraction),
    }


def _fraction(value: object) -> dict[str, object]:
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    raise TypeError(value)


def save_bag(
    folder: Path,
    name: str,
    members: Mapping[str, nn.Module],
    weights: Sequence[Sequence[float]] | None = None,
    segment: float | None = None,
    form: Form = "safetensors",
) -> Path:
    """Write a bag and its members, named by their signatures. Returns the folder, for `--repo`."""
    for signature, network in members.items():
        save_member(folder, signature, network, form)
    return define_bag(folder, name, list(members), weights, segment)


def define_bag(
    folder: Path,
    name: str,
    signatures: Sequence[str],
    weights: Sequence[Sequence[float]] | None = None,
    segment: float | None = None,
) -> Path:
    """Write only the bag's definition."""
    bag: dict[str, object] = {"models": list(signatures)}
    if weights is not None:
        bag["weights"] = [list(row) for row in weights]
    if segment is not None:
        bag["segment"] = segment
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(bag))
    return folder


def make_htdemucs_repo(folder: Path, form: Form = "safetensors") -> Path:
    """A repository with the model `htdemucs`, in its published architecture and size (168 MB)."""
    return save_bag(folder, "htdemucs", {"955717e8": htdemucs()}, form=form)


def make_htdemucs_ft_repo(folder: Path, form: Form = "safetensors") -> Path:
    """A repository with the bag `htdemucs_ft`: four such networks, each for one stem (670 MB)."""
    members = {signature: htdemucs(seed) for seed, signature in enumerate(FINE_TUNED_SIGNATURES, start=1)}
    return save_bag(folder, "htdemucs_ft", members, weights=FINE_TUNED_WEIGHTS, form=form)


def repository(model: str) -> Path:
    """A folder with `htdemucs` or `htdemucs_ft`, made where it is missing, in a form that Demucs itself loads too."""
    make = {"htdemucs": make_htdemucs_repo, "htdemucs_ft": make_htdemucs_ft_repo}[model]
    if not (MODELS / f"{model}.yaml").exists():  # written last
        make(MODELS, form="th")
    return MODELS
