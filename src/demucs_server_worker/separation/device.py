"""Which device and precision the network runs in."""

from __future__ import annotations

import torch

from demucs_server_worker.errors import InvalidOption


def resolve_device(wanted: str) -> torch.device:
    """The device for `auto` (CUDA, then MPS, then CPU), `cpu`, `mps`, `cuda` or `cuda:N`.

    Raises:
        InvalidOption: when this machine does not have it.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InvalidOption(option="device", value=wanted, allowed="this machine has no CUDA device, or torch no CUDA")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        allowed = f"this machine has {torch.cuda.device_count()} CUDA devices, counted from 0"
        raise InvalidOption(option="device", value=wanted, allowed=allowed)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InvalidOption(option="device", value=wanted, allowed="this machine has no MPS device")
    return torch.device(wanted)


def resolve_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The number format of the network for `auto` (float32), `fp32`, `bf16` or `fp16`.

    Raises:
        InvalidOption: for fp16 on a CPU, which has no fast way to compute in it.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise InvalidOption(option="precision", value=wanted, allowed="fp16 needs a GPU; a CPU takes fp32 or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(wanted, torch.float32)
