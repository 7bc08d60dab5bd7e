"""Devices and precisions: what is taken, what is refused with a reason."""

from __future__ import annotations

import pytest
import torch

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.separation.device import has_bf16, multiplies_bf16, resolve_device, resolve_precision

CPU = torch.device("cpu")


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: int, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu"), (1, False, "cuda")]
)
def test_auto_prefers_cuda_then_mps_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, chosen: str
) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert resolve_device("auto") == torch.device(chosen)


def test_the_cpu_can_be_asked_for_where_there_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=1, mps=True)
    assert resolve_device("cpu") == CPU


def test_a_gpu_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=2, mps=False)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InvalidOption, match=r"device=cuda:2 .*2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("wanted", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    machine(monkeypatch, cuda=0, mps=False)
    with pytest.raises(InvalidOption, match=f"device={wanted} .*this machine has no"):
        resolve_device(wanted)


@pytest.mark.parametrize(
    ("wanted", "dtype"), [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_precisions_of_a_cpu(wanted: str, dtype: torch.dtype) -> None:
    assert resolve_precision(wanted, CPU) is dtype


def test_fp16_is_for_gpus() -> None:
    assert resolve_precision("fp16", torch.device("cuda")) is torch.float16
    with pytest.raises(InvalidOption, match="fp16 needs a GPU"):
        resolve_precision("fp16", CPU)


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("fpu avx512f avx512_bf16 avx512vl", True),
        ("fpu amx_tile amx_bf16 amx_int8", True),
        ("fp asimd i8mm bf16 dgh", True),
        ("fpu avx2 avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_processors_that_multiply_bf16(flags: str, native: bool) -> None:
    assert has_bf16(flags) is native


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_multiply_bf16_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert multiplies_bf16(torch.device("cuda:0")) is native


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_for_proven_networks_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("demucs_server_worker.separation.device.multiplies_bf16", lambda device: native)
    assert resolve_precision("auto", CPU, proven=True) is dtype
    assert resolve_precision("auto", CPU) is torch.float32
    assert resolve_precision("fp32", CPU, proven=True) is torch.float32
