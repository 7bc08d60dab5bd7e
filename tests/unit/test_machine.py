"""What the machine has for us: a container's limits, GPUs without torch, and the workers that follow from them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from demucs_server_worker.machine import basics, control_group
from demucs_server_worker.machine.gpus import Gpu, Gpus, torch_has_cuda
from demucs_server_worker.sizing import threads_per_worker, usable_gpus, worker_count, worker_devices

GB = 10**9
MB = 10**6


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


class TestControlGroups:
    """The files that Linux shows, in a folder of the test."""

    def left(self, folder: Path, groups: str, files: dict[str, str]) -> tuple[int, int] | None:
        (folder / "groups").write_text(groups)
        return control_group.memory_left(tree(folder / "cgroup", files), folder / "groups")

    def test_version_2_in_a_container_of_its_own(self, tmp_path: Path) -> None:
        files = {
            "memory.max": f"{900 * MB}",
            "memory.current": f"{500 * MB}",
            "memory.stat": f"anon 1\ninactive_file {MB}",
        }
        assert self.left(tmp_path, "0::/\n", files) == (900 * MB, 401 * MB)

    def test_the_tightest_of_the_groups_above_counts(self, tmp_path: Path) -> None:
        files = {
            "a/memory.max": f"{900 * MB}", "a/memory.current": f"{850 * MB}",
            "a/b/memory.max": f"{300 * MB}", "a/b/memory.current": f"{100 * MB}",
            "a/b/c/memory.max": "max", "a/b/c/memory.current": "5",
        }  # fmt: skip
        assert self.left(tmp_path, "0::/a/b/c\n", files) == (900 * MB, 50 * MB)

    def test_version_1(self, tmp_path: Path) -> None:
        files = {
            "memory/docker/x/memory.limit_in_bytes": f"{700 * MB}",
            "memory/docker/x/memory.usage_in_bytes": f"{600 * MB}",
            "memory/docker/x/memory.stat": f"inactive_file 1\ntotal_inactive_file {50 * MB}",
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "memory/memory.usage_in_bytes": "1",
        }
        assert self.left(tmp_path, "4:memory:/docker/x\n0::/\n", files) == (700 * MB, 150 * MB)

    def test_a_path_of_the_host_that_is_not_mounted_here_means_the_top(self, tmp_path: Path) -> None:
        files = {"memory.max": f"{500 * MB}", "memory.current": f"{600 * MB}"}
        assert self.left(tmp_path, "0::/../../system.slice/x\n", files) == (500 * MB, 0)

    @pytest.mark.parametrize("files", [{}, {"memory.max": "max", "memory.current": "7"}, {"memory.max": "?"}])
    def test_no_limit(self, tmp_path: Path, files: dict[str, str]) -> None:
        assert self.left(tmp_path, "0::/\n", files) is None
        assert control_group.memory_left(tmp_path, tmp_path / "missing") is None

    @pytest.mark.parametrize(
        ("groups", "files", "expected"),
        [
            ("0::/a\n", {"a/cpu.max": "150000 100000", "cpu.max": "max 100000"}, 2),
            ("0::/a\n", {"a/cpu.max": "10000 100000"}, 1),
            ("0::/a\n", {"a/cpu.max": "max 100000"}, None),
            ("3:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, 4),
            ("3:cpu,io:/a\n", {"cpu,io/a/cpu.cfs_quota_us": "-1", "cpu,io/a/cpu.cfs_period_us": "100000"}, None),
        ],
    )  # fmt: skip
    def test_cores(self, tmp_path: Path, groups: str, files: dict[str, str], expected: int | None) -> None:
        (tmp_path / "groups").write_text(groups)
        assert control_group.cores(tree(tmp_path / "cgroup", files), tmp_path / "groups") == expected


class TestBasics:
    def test_a_container_has_no_more_than_its_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = psutil.virtual_memory()
        monkeypatch.setattr(control_group, "memory_left", lambda: None)
        assert basics.memory().total == machine.total
        monkeypatch.setattr(control_group, "memory_left", lambda: (100 * MB, 30 * MB))
        assert basics.memory() == basics.Memory(100 * MB, 30 * MB)

    def test_cores_of_a_container(self, monkeypatch: pytest.MonkeyPatch) -> None:
        own = len(os.sched_getaffinity(0))
        for quota, expected in ((None, own), (1, 1), (10_000, own)):
            monkeypatch.setattr(control_group, "cores", lambda quota=quota: quota)
            assert basics.cores() == expected

    def test_open_files_are_counted(self) -> None:
        before, limit = basics.open_files()
        with open(os.devnull), open(os.devnull):
            assert basics.open_files() == (before + 2, limit)

    def test_when_none_can_be_opened_any_more_all_are_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(_: str) -> list[str]:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(os, "listdir", exhausted)
        used, limit = basics.open_files()
        assert used == limit > 0


class Nvml:
    """NVIDIA's library as `pynvml` shows it, with two cards in it."""

    def __init__(self, broken: tuple[str, ...] = ()) -> None:
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        if name in self._broken:
            raise RuntimeError("driver not loaded")
        return {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{'ab'[handle]}123",
            "nvmlDeviceGetName": lambda handle: f"card {handle}".encode(),
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=8 * GB, used=2 * GB, free=6 * GB),
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=40, memory=7),
        }[name]


class TestGpus:
    def names(self, visible: str | None) -> list[str]:
        return [gpu.name for gpu in Gpus(Nvml(), visible).read()]

    def test_their_figures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert Gpus(Nvml()).read() == (Gpu("card 0", 8 * GB, 2 * GB, 40.0), Gpu("card 1", 8 * GB, 2 * GB, 40.0))

    @pytest.mark.parametrize(
        ("visible", "expected"),
        [("", []), ("1", [1]), ("1,0", [1, 0]), ("GPU-b1", [1]), ("0,-1,1", [0]), ("5", []), ("nonsense", [])],
    )
    def test_cuda_visible_devices_says_which_count(self, visible: str, expected: list[int]) -> None:
        assert self.names(visible) == [f"card {index}" for index in expected]

    def test_without_a_driver_there_are_none(self) -> None:
        assert len(Gpus(Nvml(broken=("nvmlInit",)))) == 0
        assert Gpus(Nvml(broken=("nvmlInit",))).read() == ()

    def test_a_figure_that_the_driver_does_not_tell_is_left_out(self) -> None:
        gpus = Gpus(Nvml(broken=("nvmlDeviceGetUtilizationRates",)), "0")
        assert gpus.read() == (Gpu("card 0", 8 * GB, 2 * GB, None),)

    def test_whether_torch_can_use_them_is_read_from_its_files(self) -> None:
        import torch

        assert torch_has_cuda() is (torch.version.cuda is not None)


class TestSizing:
    @pytest.mark.parametrize(
        ("cores", "memory_gb", "gpus", "expected"),
        [(8, 64, 0, 8), (8, 5, 0, 2), (1, 1, 0, 1), (3, 64, 0, 3), (32, 128, 4, 4), (32, 5, 4, 2), (2, 64, 8, 8)],
    )
    def test_auto_counts_cores_memory_and_gpus(self, cores: int, memory_gb: int, gpus: int, expected: int) -> None:
        assert worker_count("auto", cores=cores, memory_bytes=memory_gb * 2**30, gpus=gpus) == expected

    def test_a_number_is_taken_as_it_is(self) -> None:
        assert worker_count(7, cores=1, memory_bytes=1, gpus=0) == 7

    @pytest.mark.parametrize(
        ("device", "found", "usable", "devices"),
        [
            ("auto", 0, 0, ("auto",)), ("auto", 2, 2, ("cuda:0", "cuda:1")), ("cuda", 2, 2, ("cuda:0", "cuda:1")),
            ("cuda", 0, 0, ("cuda",)), ("cuda:1", 2, 1, ("cuda:1",)), ("cpu", 2, 0, ("cpu",)), ("mps", 2, 0, ("mps",)),
        ],
    )  # fmt: skip
    def test_devices(self, device: str, found: int, usable: int, devices: tuple[str, ...]) -> None:
        assert usable_gpus(device, found) == usable
        assert worker_devices(device, gpus=usable) == devices

    def test_threads(self) -> None:
        assert [threads_per_worker(8, busy) for busy in (0, 1, 2, 3, 20)] == [8, 8, 4, 2, 1]
