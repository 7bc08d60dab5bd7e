"""Files of weights: the network that one describes, and what its weights are. The first is had without the second.

A network's *skeleton* knows its rules (segment, sample rate, stems, number of parameters) and holds no weights; its
parameters are on torch's `meta` device. Where the model was converted for another runtime, that is all of it in use.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.hf import load_safetensors_model
from demucs.htdemucs import HTDemucs
from demucs.states import load_model as load_package
from demucs.states import set_state
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from demucs_server_worker.errors import DemucsWorkerError, ModelCorrupt, ModelError, WeightsChanged
from demucs_server_worker.separation.model_files import PICKLE, WeightFile, hash_file

# A safetensors file names a Python class, and Demucs' loader imports whatever it names. These are all that it may name.
_NETWORKS: dict[str | None, type[nn.Module]] = {
    "demucs.demucs.Demucs": Demucs,
    "demucs.hdemucs.HDemucs": HDemucs,
    "demucs.htdemucs.HTDemucs": HTDemucs,
    "demucs.wdemucs.WDemucs": HDemucs,  # the same class under an older name
}
_QUANTIZERS = frozenset(
    {
        "diffq.diffq.DiffQuantizer",
        "diffq.uniform.UniformQuantizer",
    }
)
_NEEDS_DIFFQ = "its weights are quantised, which needs a package that is not installed: pip install diffq"


def skeleton(model: str, path: Path) -> nn.Module:
    """The network in a file, in eval mode, with no gradients and no weights: `fill` reads them.

    A network with quantised weights, or of a class that is none of Demucs' own, comes with its weights.

    Args:
        model: its name, for errors.
        path: of the weights; a pickle is unpickled.

    Raises:
        ModelCorrupt: when the file is cut short, does not fit the network, or is no model of Demucs.
        ModelError: when it needs a package that is not installed, or cannot be read.
    """
    with _as_model_error(model, path):
        network = _skeleton_of_pickle(path) if path.suffix == PICKLE else _skeleton_of_safetensors(model, path)
    if not isinstance(network, nn.Module):
        raise ModelCorrupt(path=path, model=model, detail="it does not hold a network")
    return network.eval().requires_grad_(False)


def fill(model: str, network: nn.Module, file: WeightFile) -> None:
    """Read the weights of a network that has none, on the CPU, in single precision.

    Args:
        model: its name, for errors.
        network: as `skeleton` gave it.
        file: where its weights are.

    Raises:
        WeightsChanged: when the content is not that of the hash any more, or is gone.
        ModelCorrupt: when it does not load.
        ModelError: when it cannot be read.
    """
    with _as_model_error(model, file.path):
        if not file.path.exists() or hash_file(file.path) != file.sha256:
            raise WeightsChanged(path=file.path, model=model)
        state = _state_of_pickle(file.path) if file.path.suffix == PICKLE else _state_of_safetensors(file.path)
        try:
            _put(network, state)
        except BaseException:
            network.to("meta")  # not half of them
            raise


def _put(network: nn.Module, state: dict[str, Tensor]) -> None:
    if isinstance(network, Demucs) or "__quantized" in state:
        # Its loader gives the weights of older files their names of today, and only copies.
        set_state(network.to_empty(device="cpu"), state)  # type: ignore[no-untyped-call]
        return
    types = {name: value.dtype for name, value in network.state_dict().items()}
    whole = {name: value.to(types.get(name, value.dtype)) for name, value in state.items()}
    network.load_state_dict(whole, assign=True)


def has_weights(network: nn.Module) -> bool:
    """Whether `network` can compute."""
    return not any(each.is_meta for each in network.parameters())


# --- pickles, as Demucs' training writes them -------------------------------------------------------------------------


def _skeleton_of_pickle(path: Path) -> Any:
    package = torch.load(path, "meta", weights_only=False, mmap=zipfile.is_zipfile(path))
    if package["klass"] not in _NETWORKS.values() or package["state"].get("__quantized"):
        return load_package(path)  # type: ignore[no-untyped-call]
    return _without_weights(package)


def _state_of_pickle(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, "cpu", weights_only=False)["state"]
    return state


# --- safetensors, as Demucs publishes them ----------------------------------------------------------------------------


def _skeleton_of_safetensors(model: str, path: Path) -> Any:
    # Read by the same parser that the loader uses, so that the two cannot understand a file differently.
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
        _check_classes(model, path, metadata)
        if "structure" in metadata:
            return load_safetensors_model(path)
        state = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}
    args, kwargs = (json.loads(metadata[part], object_hook=_fraction) for part in ("args", "kwargs"))
    return _without_weights({"klass": _NETWORKS[metadata["klass"]], "args": args, "kwargs": kwargs, "state": state})


def _state_of_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(str(path), framework="pt") as file:
        if "structure" in (file.metadata() or {}):
            return load_safetensors_model(path).state_dict()
        # Copies: of what stays mapped, whoever writes to the file would change it, and who shortens it end the process.
        return {name: file.get_tensor(name).clone() for name in file.keys()}


def _fraction(node: dict[str, Any]) -> Any:
    """A Fraction where a settings' value is one, as `demucs.hf` reads them."""
    return Fraction(node["numerator"], node["denominator"]) if node.get("_type") == "fraction" else node


def _check_classes(model: str, path: Path, metadata: dict[str, str]) -> None:
    """Refuse a file whose metadata would have anything imported but a network of Demucs or a quantiser of diffq."""
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


# --- networks without weights -----------------------------------------------------------------------------------------


def _without_weights(package: dict[str, Any]) -> nn.Module:
    """What Demucs' loader makes of a package whose state are meta tensors; it compares names and shapes."""
    with _NoNumbers():
        network: nn.Module = load_package(package)  # type: ignore[no-untyped-call]
    return network.to("meta")


class _NoNumbers(TorchFunctionMode):
    """Builds networks without drawing or computing the numbers that would fill them, which takes a second.

    Memory that nobody writes to is none. On the meta device the constructors of Demucs would run through torch's
    decompositions, whose import alone takes longer than the numbers.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is Tensor.std:
            return torch.ones(())
        if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], Tensor):
            return args[0]  # writes in place
        return func(*args, **kwargs)


# --- what goes wrong --------------------------------------------------------------------------------------------------


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
