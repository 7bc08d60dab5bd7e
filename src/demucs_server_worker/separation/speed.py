"""`python -m demucs_server_worker.separation.speed TASK`: how fast this machine computes, without a song around it.

For `bench`, which runs it in children: as many at once as workers would be, each with the threads that a worker would
have. TASK is a JSON object, the fields of `Task`. What is found is printed as JSON objects, one a line, each with an
`event`: `converting`, `machine`, `ready`, `ran`, `failed`. A child that said `ready` runs forward passes for as many
seconds as each line of its standard input says, and ends with it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.separation.backends.choice import Backends, is_proven, why_not_openvino
from demucs_server_worker.separation.device import multiplies_bf16, name_of, resolve_device, resolve_precision
from demucs_server_worker.separation.models import LoadedModel, load_model
from demucs_server_worker.separation.network import Network
from demucs_server_worker.separation.segments import plan

OVERLAP = 0.25  # of segments, as `separate` has it by default
MATRIX_SIZES = {"cpu": (2048, 3072), "cuda": (4096, 8192)}  # rows and columns; past these the rate rises no more
MATRIX_REPEATS = 6
LEAST_PASSES = 2


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to measure.

    Attributes:
        what: `machine` for its matrix rates and the model's work; `passes` for forward passes.
        model: its name.
        repo: a folder of models, or None.
        device, precision, backend: as the settings of these names.
        threads: compute threads.
        cache_dir: folder of converted models.
    """

    what: Literal["machine", "passes"]
    model: str
    device: str
    threads: int
    cache_dir: str
    repo: str | None = None
    precision: str = "auto"
    backend: Literal["auto", "torch", "openvino"] = "auto"


def measure(task: Task) -> None:
    """Do it, and print what was found.

    Raises:
        DemucsWorkerError: the model, the device or the backend cannot be used.
    """
    torch.set_num_threads(task.threads)
    device = resolve_device(task.device)
    model = load_model(task.model, Path(task.repo) if task.repo else None, fetch=False)
    if task.what == "machine":
        _say("machine", **_machine(model, device, task))
    else:
        _run_on_request(model, device, task)


# --- the machine and the model ----------------------------------------------------------------------------------------


def _machine(model: LoadedModel, device: torch.device, task: Task) -> dict[str, Any]:
    network = model.network(0).to(device)
    dtype = resolve_precision(task.precision, device, proven=is_proven(network))
    openvino = why_not_openvino(network, device, torch.float32) is None
    by_itself = openvino and is_proven(network) and why_not_openvino(network, device, dtype) is None
    chosen = task.backend if task.backend != "auto" else "openvino" if by_itself else "torch"
    segment = _segment_of(model)
    has_bf16 = multiplies_bf16(device)
    formats = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_bf16 else {})
    if device.type == "cuda":
        formats["fp16"] = torch.float16
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "devices": torch.cuda.device_count() if device.type == "cuda" else 1,
        "bf16": has_bf16,
        "openvino": openvino,
        "chosen_backend": chosen,
        "chosen_precision": name_of(dtype),
        "parameters": sum(each.numel() for each in network.parameters()),
        "members": len(model.members),
        "segment_seconds": segment / model.sample_rate,
        "stride_seconds": plan(segment, segment, OVERLAP).stride / model.sample_rate,
        "operations": operations_of(network, torch.zeros(1, model.channels, segment, device=device)),
        "matrix_rates": {name: matrix_rate(device, dtype) for name, dtype in formats.items()},
    }


def operations_of(network: torch.nn.Module, batch: Tensor) -> int:
    """Floating-point operations of a forward pass, a multiplication and an addition counting as two.

    Counted as torch counts them: matrix products and convolutions. Attention is computed from its parts meanwhile,
    since the counter does not know every fused kernel.
    """
    torch.backends.mha.set_fastpath_enabled(False)  # it is one such kernel
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        network(batch)
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second in a product of large square matrices: the best of several tries.

    Nothing that multiplies matrices on this machine is much faster, so it is the floor's denominator.
    """
    best = 0.0
    for size in MATRIX_SIZES.get(device.type, MATRIX_SIZES["cpu"]):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        torch.matmul(left, right)
        for _ in range(MATRIX_REPEATS):
            started = time.perf_counter()
            torch.matmul(left, right)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


# --- forward passes ---------------------------------------------------------------------------------------------------


def _run_on_request(model: LoadedModel, device: torch.device, task: Task) -> None:
    def on_fetch(file: str, done: int, total: int | None) -> None:
        _say("converting", seconds=done)

    backends = Backends(task.backend, Path(task.cache_dir), threads=torch.get_num_threads, on_fetch=on_fetch)
    segment = _segment_of(model)
    backend = backends.of(model, 0, device, task.precision)
    window = torch.randn(1, model.channels, segment)
    backend.run(window)  # the first one plans, packs and asks for memory
    _say("ready", backend=backend.computed.backend, device=backend.computed.device,
         precision=backend.computed.precision, threads=task.threads)  # fmt: skip
    for line in sys.stdin:
        taken: list[float] = []
        started = time.perf_counter()
        while len(taken) < LEAST_PASSES or time.perf_counter() - started < float(line):
            began = time.perf_counter()
            backend.run(window)
            taken.append(time.perf_counter() - began)
        _say("ran", passes=taken, seconds=time.perf_counter() - started, peak_bytes=_peak_bytes())


def _segment_of(model: LoadedModel) -> int:
    """Samples of a segment of the model's own length, as the model wants them."""
    network = Network(model.members[0], cast(Any, None))
    return network.valid_length(network.segment_length(None, model.sample_rate), None, model.sample_rate)


def _peak_bytes() -> int:
    """The most memory that this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Measure what the argument says; 1 when it cannot be measured."""
    warnings.simplefilter("ignore")
    try:
        measure(Task(**json.loads(sys.argv[1])))
    except DemucsWorkerError as error:
        _say("failed", code=error.code, message=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
