"""Which backend runs a network, and those that stay loaded between songs."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from demucs_server_worker.errors import InvalidOption, ModelError, OutOfMemory
from demucs_server_worker.separation import hub
from demucs_server_worker.separation.backends.base import Backend
from demucs_server_worker.separation.backends.cache import ConversionCache, NoMemoryNow, NotConverted, unknown
from demucs_server_worker.separation.backends.openvino_backend import ConvertedCore, OpenVinoBackend, is_installed
from demucs_server_worker.separation.backends.split import Ends, is_divisible
from demucs_server_worker.separation.backends.torch_backend import TorchBackend
from demucs_server_worker.separation.device import resolve_precision
from demucs_server_worker.separation.models import LoadedModel
from demucs_server_worker.separation.shelf import MODELS_KEPT

Wanted = Literal["auto", "torch", "openvino"]

# Converting takes half a minute, once: small networks, which run in a fraction of a second, would not earn it back.
# Precision too was measured on networks of this size only: those that Demucs publishes have 27 and 42 million.
LEAST_PARAMETERS = 5_000_000

NOT_INSTALLED = "it is not installed: pip install 'demucs-server-worker[openvino]'"

_log = logging.getLogger(__name__)


def why_not_openvino(network: nn.Module, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why `network` cannot run on OpenVINO, in words; None when it can. Whether it should is another matter."""
    if device.type != "cpu":
        return f"it is for CPUs, and the device is {device}"
    if not is_divisible(network):
        return "it is proven for hybrid transformers that give whole spectrograms, and this is none"
    if dtype not in (torch.float32, torch.bfloat16):
        return f"it computes in fp32 and bf16, not {dtype}"
    if not is_installed():
        return NOT_INSTALLED
    return None


def is_proven(network: nn.Module) -> bool:
    """Whether `auto` may take OpenVINO and lower precision for `network`: both were measured on its kind."""
    return is_divisible(network) and sum(each.numel() for each in network.parameters()) >= LEAST_PARAMETERS


class Backends:
    """Chooses, and keeps what it loaded for the models used last."""

    def __init__(
        self, wanted: Wanted, folder: Path, *, threads: Callable[[], int],
        on_fetch: hub.Progress | None = None,
        memory_left: Callable[[], int | None] = unknown,
    ) -> None:  # fmt: skip
        """Choose how to choose.

        Args:
            wanted: `auto` takes OpenVINO where it is faster and was proven, else torch.
            folder: of conversions.
            threads: says with how many to compute.
            on_fetch: told that a conversion is on its way, as of a model that arrives.
            memory_left: bytes of memory that are free, or None where nobody can tell.

        Raises:
            InvalidOption: when OpenVINO is wanted and not installed.
        """
        if wanted == "openvino" and not is_installed():
            raise InvalidOption(option="backend", value=wanted, allowed=NOT_INSTALLED)
        self._wanted = wanted
        self._cache = ConversionCache(folder, memory_left)
        self._threads = threads
        self._on_fetch = on_fetch
        self._cores: OrderedDict[str, dict[int, ConvertedCore]] = OrderedDict()  # by the model's digest, and place
        self._given_up: set[str] = set()  # digests of models that OpenVINO failed with
        self._said: set[str] = set()

    def of(
        self, model: LoadedModel, place: int, device: torch.device, precision: str,
        check: Callable[[], None] = lambda: None,
    ) -> Backend:  # fmt: skip
        """What runs a member of `model`.

        Args:
            model: the bag.
            place: of the member in it.
            device: where it runs.
            precision: `auto`, `fp32`, `bf16` or `fp16`.
            check: called while something takes long; raises to stop.

        Raises:
            ModelError: when OpenVINO must be used and cannot be.
            OutOfMemory: when it must be used, and there is too little memory to convert the model.
            WeightsChanged, ModelCorrupt: when the weights must be read, and are not those of the model.
            InvalidOption: for a precision that the device does not have.
        """
        network = model.members[place]
        proven = is_proven(network)
        dtype = resolve_precision(precision, device, proven=proven)
        reason = why_not_openvino(network, device, dtype)
        if self._wanted == "torch" or not self._may_use_openvino(model, reason, proven):
            return TorchBackend(model.network(place), device, dtype)
        try:
            core = self._core(model, place, check)
            # The conversion holds the weights. If they were read to make it, they would count twice from here on.
            if not next(network.parameters()).is_meta:
                network.to("meta")
            return OpenVinoBackend(Ends(network), core, dtype, self._threads)
        except NoMemoryNow as error:
            # The next song may find the memory that this one does not.
            if self._wanted == "openvino":
                raise OutOfMemory(detail=str(error)) from error
            self._go_without(model, str(error))
            return TorchBackend(model.network(place), device, dtype)
        except (NotConverted, RuntimeError, ImportError) as error:
            self._go_without(model, str(error).strip().partition("\n")[0])
            self._given_up.add(model.digest)
            self._cores.pop(model.digest, None)
            return TorchBackend(model.network(place), device, dtype)

    def preload(self, model: LoadedModel, device: torch.device, precision: str) -> None:
        """Have what runs `model` ready, but for a bag of several members: a song may need but one of them.

        Raises:
            As `of`.
        """
        if len(model.members) == 1:
            self.of(model, 0, device, precision)

    def _may_use_openvino(self, model: LoadedModel, reason: str | None, proven: bool) -> bool:
        if self._wanted == "openvino":
            if reason is not None:
                raise ModelError(model=model.name, detail=f"it cannot run on OpenVINO: {reason}")
            return True
        if model.digest in self._given_up:
            return False
        if reason == NOT_INSTALLED:
            self._say(logging.WARNING, f"{model.name} runs on torch. OpenVINO would be faster, but {reason}")
        elif reason is None and not proven:
            reason = "the network is too small to be worth converting"
        if reason is not None:
            self._say(logging.INFO, f"{model.name} runs on torch and not on OpenVINO: {reason}")
        return reason is None

    def _core(self, model: LoadedModel, place: int, check: Callable[[], None]) -> ConvertedCore:
        first = model.members.index(model.members[place])  # the same member may stand in a bag twice
        cores = self._cores_of(model)
        if first not in cores:
            digest = f"{model.digest}/{first}"
            cores[first] = self._opened(digest, model, first, check)
        return cores[first]

    def _cores_of(self, model: LoadedModel) -> dict[int, ConvertedCore]:
        if model.digest not in self._cores:
            while len(self._cores) >= MODELS_KEPT:  # room is made first
                self._cores.popitem(last=False)
            self._cores[model.digest] = {}
        self._cores.move_to_end(model.digest)
        return self._cores[model.digest]

    def _opened(self, digest: str, model: LoadedModel, place: int, check: Callable[[], None]) -> ConvertedCore:
        def network() -> nn.Module:
            return model.network(place)

        def on_wait(seconds: float) -> None:
            check()
            self._say(logging.WARNING, f"{model.name} is being converted for OpenVINO, once: about half a minute")
            if self._on_fetch is not None:
                self._on_fetch(f"{model.name} for OpenVINO", int(seconds), None)

        try:
            return ConvertedCore(self._cache.take(digest, network, on_wait))
        except RuntimeError:  # whole, and yet OpenVINO does not read it
            self._cache.forget(digest)
            return ConvertedCore(self._cache.take(digest, network, on_wait))

    def _go_without(self, model: LoadedModel, reason: str) -> None:
        if self._wanted == "openvino":
            raise ModelError(model=model.name, detail=f"it cannot run on OpenVINO: {reason}")
        self._say(logging.WARNING, f"{model.name} runs on torch, because OpenVINO cannot be used: {reason}")

    def _say(self, level: int, text: str) -> None:
        """Once."""
        if text not in self._said:
            self._said.add(text)
            _log.log(level, text)
