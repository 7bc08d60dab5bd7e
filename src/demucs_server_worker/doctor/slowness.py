"""Why it is slow: workers against cores, memory that swaps, a processor that others use, a GPU that lies idle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from demucs_server_worker.doctor.check import GIGABYTE, Check, Trouble, fine, gigabytes, warned
from demucs_server_worker.health.estimate import MODELS
from demucs_server_worker.settings import Settings

BUSY_LOAD_A_CORE = 1.5
SWAPPING_BYTES = GIGABYTE // 2

_HERE = Trouble.SLOW


def check_workers(workers: int, cores: int, device: str | None) -> Check:
    """As many workers as the cores can feed.

    Args:
        workers: at once.
        cores: that this process may use.
        device: they compute on, as far as is known.
    """
    found = f"{workers} at once on {cores} cores"
    if device is not None and device != "cpu":
        return fine(_HERE, "MAX_WORKERS", f"{found}, computing on {device}")
    if workers > cores:
        mend = "Set MAX_WORKERS to auto: workers that share a core only wait for each other."
        return warned(_HERE, "MAX_WORKERS", found, mend)
    if workers * 4 <= cores:
        mend = "Set MAX_WORKERS to auto, or let `demucs-server-worker serve -w N` use more of them, if songs queue up."
        return warned(_HERE, "MAX_WORKERS", found, mend)
    return fine(_HERE, "MAX_WORKERS", found)


def check_device(settings: Settings, found: Mapping[str, Any] | str, gpus: int) -> Iterator[Check]:
    """A GPU that is there is used; and how heavy the model is.

    Args:
        settings: device and model.
        found: by the probe.
        gpus: of NVIDIA in this machine, whether torch can use them or not.
    """
    device = None if isinstance(found, str) else found["device"]
    if gpus and device == "cpu" and settings.device != "cpu":
        mend = "Install a torch built for CUDA and for this driver: https://pytorch.org/get-started/locally"
        yield warned(_HERE, "GPU", f"{gpus} NVIDIA GPU in this machine, and torch cannot use it", mend)
    elif gpus and device == "cpu":
        mend = "Set DEMUCS_WORKER_DEVICE to auto."
        yield warned(_HERE, "GPU", f"{gpus} NVIDIA GPU in this machine, and the settings ask for the CPU", mend)
    elif device == "cpu":
        yield fine(_HERE, "GPU", "none that torch could use: the processor computes")
    members = MODELS[settings.model].members if settings.model in MODELS else 1
    if members > 1:
        mend = "htdemucs is one network; or ask for the stems you need only, which saves networks of htdemucs_ft."
        yield warned(_HERE, "model", f"{settings.model} is {members} networks, one after the other", mend)


def check_backend(settings: Settings, found: Mapping[str, Any] | str) -> Iterator[Check]:
    """On a processor, OpenVINO is there for the models that it is faster with.

    Args:
        settings: the backend that is wanted.
        found: by the probe.
    """
    if isinstance(found, str) or found["device"] != "cpu":
        return
    precision = "bf16" if found["bf16"] else "fp32, since this processor has no fast bf16"
    if settings.backend == "torch":
        mend = "Set DEMUCS_WORKER_BACKEND to auto: OpenVINO is faster for the htdemucs models."
        yield warned(_HERE, "backend", "torch, as the settings ask for", mend)
    elif found["openvino"] is None:
        mend = "Install it: pip install 'demucs-server-worker[openvino]'; the htdemucs models are faster on it."
        yield warned(_HERE, "backend", f"torch, because there is no OpenVINO: {found['openvino_problem']}", mend)
    else:
        words = f"OpenVINO {found['openvino']} for the htdemucs models, torch for others; precision auto is {precision}"
        yield fine(_HERE, "backend", words)


def check_load(load: float, cores: int, *, manager_runs: bool) -> Check:
    """Others leave the processor to the workers.

    Args:
        load: average of the last minute.
        cores: of the machine.
        manager_runs: a manager runs here, whose workers are part of the load.
    """
    found = f"load {load:.1f} on {cores} cores"
    if load <= BUSY_LOAD_A_CORE * cores:
        return fine(_HERE, "load", found)
    if manager_runs:
        return warned(_HERE, "load", f"{found}, workers included", "Lower MAX_WORKERS if other programs run here too.")
    return warned(_HERE, "load", found, "Other programs use the processor: see `top`, and move them or the server.")


def check_swap(used_bytes: int, available_bytes: int) -> Check:
    """Memory does not come from the disk."""
    found = f"{gigabytes(used_bytes)} of swap in use, {gigabytes(available_bytes)} of memory free"
    if used_bytes > SWAPPING_BYTES and available_bytes < used_bytes:
        return warned(_HERE, "swap", found, "Lower MAX_WORKERS or add memory: a worker that swaps crawls.")
    return fine(_HERE, "swap", found)
