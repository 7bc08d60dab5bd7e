"""Conversions that are broken, contested, interrupted, or cannot be kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
from torch import nn

from demucs_server_worker.errors import SeparationCancelled
from demucs_server_worker.separation.backends import cache
from demucs_server_worker.separation.backends.cache import ConversionCache, NoMemoryNow, NotConverted
from demucs_server_worker.separation.backends.conversion import CONVERTED, NETWORK, WEIGHTS
from tests import conversions, model_repo
from tests.conversions import FakeConverter, key, names_in, quiet

DIGEST = "some model"


def small() -> nn.Module:
    return nn.Linear(2, 2)


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> FakeConverter:
    fake = FakeConverter()
    monkeypatch.setattr(cache, "_run_converter", fake)
    return fake


def test_a_conversion_is_made_once_and_found_again(tmp_path: Path, converter: FakeConverter) -> None:
    made = ConversionCache(tmp_path).take(DIGEST, small, quiet)
    assert made.read_bytes() == b"converted"
    assert ConversionCache(tmp_path).take(DIGEST, small, quiet) == made
    assert converter.runs == 1
    assert names_in(tmp_path) == [key(DIGEST)]
    assert names_in(made.parent) == [WEIGHTS, CONVERTED, "facts.json"]  # the network is not kept twice


def test_other_weights_are_another_conversion(tmp_path: Path, converter: FakeConverter) -> None:
    first, second = (ConversionCache(tmp_path).take(digest, small, quiet) for digest in ("a", "b"))
    assert first != second
    assert converter.runs == 2


@pytest.mark.parametrize("name", [CONVERTED, WEIGHTS, "facts.json"])
@pytest.mark.parametrize("damage", ["cut short", "another byte", "gone"])
def test_a_broken_conversion_is_made_anew(tmp_path: Path, converter: FakeConverter, name: str, damage: str) -> None:
    made = ConversionCache(tmp_path).take(DIGEST, small, quiet)
    file = made.parent / name
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] if damage == "cut short" else b"X" + whole[1:])
    assert ConversionCache(tmp_path).take(DIGEST, small, quiet) == made
    assert converter.runs == 2
    assert made.read_bytes() == b"converted"
    assert names_in(tmp_path) == [key(DIGEST)]


def test_of_two_that_want_it_at_once_one_makes_it(tmp_path: Path, converter: FakeConverter) -> None:
    converter.may_end.clear()
    waiting = threading.Event()

    def second_waits(seconds: float) -> None:
        waiting.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ConversionCache(tmp_path).take, DIGEST, small, quiet)
        assert converter.begun.wait(30)
        second = pool.submit(ConversionCache(tmp_path).take, DIGEST, small, second_waits)
        assert waiting.wait(30)
        converter.may_end.set()
        assert first.result(30) == second.result(30)
    assert converter.runs == 1


def test_what_a_killed_process_left_is_removed(tmp_path: Path, converter: FakeConverter) -> None:
    left = tmp_path / f"{key(DIGEST)}.unfinished-abc"
    left.mkdir()
    (left / NETWORK).write_bytes(b"half")
    ConversionCache(tmp_path).take(DIGEST, small, quiet)
    assert names_in(tmp_path) == [key(DIGEST)]


def test_a_folder_that_cannot_be_written_is_a_reason(tmp_path: Path, converter: FakeConverter) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotConverted, match="cannot be written"):
        ConversionCache(file / "cache").take(DIGEST, small, quiet)
    assert converter.runs == 0


def test_a_filled_cache_needs_no_right_to_write(
    tmp_path: Path, converter: FakeConverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ConversionCache(tmp_path).take(DIGEST, small, quiet)
    for path in tmp_path.glob("*.lock"):
        path.unlink()
    monkeypatch.setattr(cache, "FileLock", None)  # no lock is taken
    assert ConversionCache(tmp_path).take(DIGEST, small, quiet) == made
    assert names_in(tmp_path) == [path.name for path in tmp_path.iterdir()]


def test_too_little_room_is_a_reason(tmp_path: Path, converter: FakeConverter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(free=10))
    with pytest.raises(NotConverted, match="has room for 0 MB"):
        ConversionCache(tmp_path).take(DIGEST, small, quiet)
    assert converter.runs == 0


def test_of_two_networks_one_is_converted_at_a_time(tmp_path: Path, converter: FakeConverter) -> None:
    converter.may_end.clear()
    waiting = threading.Event()

    def second_waits(seconds: float) -> None:
        waiting.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ConversionCache(tmp_path).take, "a", small, quiet)
        assert converter.begun.wait(30)
        second = pool.submit(ConversionCache(tmp_path).take, "b", small, second_waits)
        assert waiting.wait(30)
        assert converter.runs == 1
        converter.may_end.set()
        assert first.result(30) != second.result(30)
    assert converter.runs == 2


def test_too_little_memory_is_a_reason_for_the_moment(tmp_path: Path, converter: FakeConverter) -> None:
    left = [500_000_000]
    cache_of_ours = ConversionCache(tmp_path, lambda: left[0])
    network = nn.Linear(5_000_000, 1)  # 20 MB
    with pytest.raises(NoMemoryNow, match=r"takes 510 MB of memory, and 500 MB are free"):
        cache_of_ours.take(DIGEST, lambda: network, quiet)
    assert converter.runs == 0
    assert names_in(tmp_path) == []
    left[0] = 520_000_000
    cache_of_ours.take(DIGEST, lambda: network, quiet)
    assert converter.runs == 1


def test_what_is_converted_needs_no_memory_for_it(tmp_path: Path, converter: FakeConverter) -> None:
    made = ConversionCache(tmp_path).take(DIGEST, small, quiet)
    assert ConversionCache(tmp_path, lambda: 0).take(DIGEST, small, quiet) == made


def test_a_full_disk_is_a_reason_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_run_converter", FakeConverter(fail=fail))
    with pytest.raises(NotConverted, match="No space left"):
        ConversionCache(tmp_path).take(DIGEST, small, quiet)
    assert names_in(tmp_path) == []


def test_a_network_that_cannot_be_handed_over_is_a_reason(tmp_path: Path, converter: FakeConverter) -> None:
    network = small()
    network.hook = lambda: None  # type: ignore[assignment]
    with pytest.raises(NotConverted, match="cannot be written for the converter"):
        ConversionCache(tmp_path).take(DIGEST, lambda: network, quiet)
    assert converter.runs == 0
    assert names_in(tmp_path) == []


def test_a_converter_that_fails_says_why(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(NotConverted, match="converting ended with 1: AttributeError"):
        ConversionCache(tmp_path).take(DIGEST, small, quiet)  # a network that is none of Demucs'
    assert names_in(tmp_path) == []


def test_cancelling_ends_the_converter_and_leaves_nothing(tmp_path: Path) -> None:
    def stop(seconds: float) -> None:
        raise SeparationCancelled

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(SeparationCancelled):
        ConversionCache(tmp_path).take(DIGEST, model_repo.tiny_htdemucs, stop)
    assert set(psutil.Process().children(recursive=True)) <= before
    assert names_in(tmp_path) == []


def test_the_converter_ends_with_its_parent(tmp_path: Path) -> None:
    torch.save(model_repo.tiny_htdemucs(), tmp_path / NETWORK)
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({conversions.converter_command(tmp_path)!r}, stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
        child.wait(30)
    assert not (tmp_path / CONVERTED).exists()
