"""Hybrid transformers as OpenVINO runs them on a CPU: the core converted, the Fourier transforms in torch."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demucs_server_worker.separation.backends.allocator import LargeBlocks
from demucs_server_worker.separation.backends.base import Computed
from demucs_server_worker.separation.backends.mapped import let_go_of
from demucs_server_worker.separation.backends.split import Ends
from demucs_server_worker.separation.device import name_of

# Compiling anew takes as long as two segments. The number of threads changes with each task that begins or ends, and
# between two short songs it changes back at once.
STEADY_SECONDS = 3.0

_TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def is_installed() -> bool:
    """Whether there is an OpenVINO to import."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> Any:
    """The module `openvino`, imported so that it phones nobody.

    By itself it reports its import, each conversion and its user's settings through `openvino_telemetry`, a package
    that it requires but does without when it cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class ConvertedCore:
    """A converted core, compiled for one precision and one number of threads at a time."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Map the weights into memory, shared with every process that maps them too; compile later.

        Args:
            path: of the conversion's `.xml`; both its files may vanish afterwards.
            clock: monotonic seconds.

        Raises:
            RuntimeError: when OpenVINO cannot read them.
        """
        self._openvino = load_openvino()
        self._core = self._openvino.Core()
        self._model = self._core.read_model(path)
        self._weights = path.with_suffix(".bin")
        self._made_for: tuple[torch.dtype, int] | None = None
        self._request: Any = None
        self._clock = clock
        self._asked: tuple[int, float] | None = None  # another number of threads, and since when

    def prepare(self, dtype: torch.dtype, threads: int) -> None:
        """Compile, unless that was done for the same. Takes about a second.

        Another number of threads counts once it was asked for throughout `STEADY_SECONDS`. It is part of what OpenVINO
        compiles, and one compilation is kept, not one for each number: it holds the weights again, packed for the
        processor, and the memory that the passes work in.
        """
        if self._made_for is not None and self._made_for[0] == dtype and not self._is_steady(threads):
            return
        self._request, self._made_for = None, None  # makes room first
        config = {
            "INFERENCE_PRECISION_HINT": _TYPES[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinned threads of several workers would all sit on the same first cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = self._core.compile_model(self._model, "CPU", config).create_infer_request()
        let_go_of(self._weights)
        self._made_for = (dtype, threads)
        self._asked = None

    def _is_steady(self, threads: int) -> bool:
        """Whether `threads` are other than what was compiled for, and have been for long enough."""
        assert self._made_for is not None  # noqa: S101 (by the caller)
        if threads == self._made_for[1]:
            self._asked = None
            return False
        if self._asked is None or self._asked[0] != threads:
            self._asked = (threads, self._clock())
        return self._clock() - self._asked[1] >= STEADY_SECONDS

    def __call__(self, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """As `split.Core.forward`, for a batch of one. What it gives is valid until the next call."""
        inputs = [spectrum.contiguous().numpy(), wave.contiguous().numpy()]
        outputs = self._request.infer(inputs, share_inputs=True, share_outputs=True)
        first, second = (torch.from_numpy(outputs[place]) for place in (0, 1))
        return first, second


class OpenVinoBackend:
    """A hybrid transformer on the CPU."""

    def __init__(self, ends: Ends, core: ConvertedCore, dtype: torch.dtype, threads: Callable[[], int]) -> None:
        """Compile the core.

        Args:
            ends: what stands before and behind the core.
            core: of the same network.
            dtype: float32 or bfloat16, for the core; the rest is float32.
            threads: says with how many to compute; asked before each pass.
        """
        self._ends = ends
        self._core = core
        self._dtype = dtype
        self._threads = threads
        LargeBlocks.give_back()
        core.prepare(dtype, threads())

    @property
    def computed(self) -> Computed:
        """How it computes."""
        return Computed("openvino", "cpu", name_of(self._dtype))

    @property
    def batch(self) -> int:
        """One: a core is converted for one."""
        return 1

    def run(self, batch: Tensor) -> Tensor:
        """As `Backend.run`; the items go through one by one, since a core is converted for one."""
        self._core.prepare(self._dtype, self._threads())
        with torch.inference_mode():
            return torch.cat([self._run(item[None]) for item in batch])

    def _run(self, mix: Tensor) -> Tensor:
        spectrum, wave, scale, wave_scale = self._ends.before(mix)
        spectrum, wave = self._core(spectrum, wave)
        return self._ends.behind(spectrum, wave, scale, wave_scale, mix.shape[-1])
