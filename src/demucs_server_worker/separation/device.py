"""Which device and precision the network runs in."""

from __future__ import annotations

from functools import cache

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


def resolve_precision(wanted: str, device: torch.device, *, proven: bool = False) -> torch.dtype:
    """The number format of the network for `auto`, `fp32`, `bf16` or `fp16`.

    Args:
        wanted: `auto` is bfloat16 where the device multiplies it natively, else float32.
        device: where the network runs.
        proven: whether the network is one whose stems were measured to bear bfloat16; `auto` is float32 for others.

    Raises:
        InvalidOption: for fp16 on a CPU, which has no fast way to compute in it.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise InvalidOption(option="precision", value=wanted, allowed="fp16 needs a GPU; a CPU takes fp32 or bf16")
    if wanted == "auto":
        wanted = "bf16" if proven and multiplies_bf16(device) else "fp32"
    return _DTYPES[wanted]


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def name_of(dtype: torch.dtype) -> str:
    """`fp32`, `bf16` or `fp16`."""
    return next(name for name, each in _DTYPES.items() if each is dtype)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions that multiply bfloat16; elsewhere it is no faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    return device.type == "cpu" and has_bf16(_cpu_flags())


def has_bf16(flags: str) -> bool:
    """Whether a processor with these flags, as /proc/cpuinfo names them, multiplies bfloat16 natively.

    `amx_bf16` and `avx512_bf16` are Intel's and AMD's names, `bf16` is that of 64-bit ARM (Linux,
    arch/x86/include/asm/cpufeatures.h and arch/arm64/kernel/cpuinfo.c).
    """
    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(flags.split())


@cache
def _cpu_flags() -> str:
    """The flags of the first core; empty where the system does not tell (then nothing is assumed)."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""
