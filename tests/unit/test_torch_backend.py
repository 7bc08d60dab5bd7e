"""Segments together in one forward pass, as far as the device's memory goes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from demucs_server_worker.separation.backends.torch_backend import TorchBackend
from tests.separations import Shares

CPU = torch.device("cpu")


class Small(Shares):
    """A network on a device that has memory for so many segments."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.sizes: list[int] = []

    def forward(self, mix: Tensor) -> Tensor:
        self.sizes.append(len(mix))
        if len(mix) > self.most:
            raise torch.OutOfMemoryError
        return super().forward(mix)


def test_a_cpu_is_given_one_segment_at_once() -> None:
    assert TorchBackend(Shares(), CPU, torch.float32).batch == 1


def test_a_batch_is_one_pass_and_each_item_of_it_is_as_alone() -> None:
    network, windows = Shares(), torch.randn(3, 2, 50)
    together = TorchBackend(network, CPU, torch.float32, batch=4).run(windows)
    assert network.passes == 1
    alone = TorchBackend(network, CPU, torch.float32)
    torch.testing.assert_close(together, torch.cat([alone.run(window[None]) for window in windows]))


def test_where_memory_is_short_fewer_run_at_once_from_then_on() -> None:
    network, windows = Small(most=2), torch.randn(8, 2, 50)
    backend = TorchBackend(network, CPU, torch.float32, batch=8)
    shares = network.get_buffer("shares")
    torch.testing.assert_close(backend.run(windows), windows[:, None] * shares)
    assert (backend.batch, network.sizes) == (2, [8, 4, 2, 2, 2, 2])
    backend.run(windows[:2])
    assert network.sizes[-1] == 2


def test_memory_that_is_short_for_one_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        TorchBackend(Small(most=0), CPU, torch.float32, batch=4).run(torch.randn(4, 2, 50))


def test_a_gpu_is_given_what_its_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from demucs_server_worker.separation.backends import torch_backend

    for free, segments in [(80e9, 8), (9e9, 4), (1e9, 1)]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(free), int(80e9)))
        assert torch_backend._segments_at_once(torch.device("cuda:0")) == segments
