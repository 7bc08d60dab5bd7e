"""Conversions on disk: made once a model, found by every later worker."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from demucs_server_worker.separation.backends.conversion import CONVERSION_VERSION, CONVERTED, NETWORK, WEIGHTS
from demucs_server_worker.separation.model_files import hash_file

POLL_SECONDS = 0.5  # between two looks at a conversion, and two signs of life
LIMIT_SECONDS = 900.0  # it takes half a minute; past this it hangs

_FACTS = "facts.json"
_LOCK = "converting.lock"
_UNFINISHED = ".unfinished-"
# The network is written once for the converter, and once more by it.
_ROOM_FACTOR = 2.5
# The converter's memory at its peak: what any process with torch and OpenVINO takes, and so many times its network.
# Measured: 1.3 GB for 168 MB of weights.
_CONVERTER_BYTES = 400_000_000
_MEMORY_FACTOR = 5.5


class NotConverted(Exception):
    """Why there is no conversion, in words."""


class NoMemoryNow(NotConverted):
    """There is too little memory for the converter at the moment; it may be tried again."""


def unknown() -> None:
    """Free memory that nobody can tell."""
    return None


class ConversionCache:
    """A folder of conversions, shared by all workers of a user."""

    def __init__(self, folder: Path, memory_left: Callable[[], int | None] = unknown) -> None:
        """Args: folder: made when the first conversion is; memory_left: free bytes, or None where nobody can tell."""
        self._folder = folder
        self._memory_left = memory_left

    def take(self, digest: str, network: Callable[[], nn.Module], on_wait: Callable[[float], None]) -> Path:
        """The conversion of a network, made now if need be; of several processes that want it, one makes it.

        Conversions of other networks are waited for as well: each takes a gigabyte of memory for half a minute.
        A whole conversion is taken without a lock, so that a filled cache may be read-only.

        Args:
            digest: of its weights and settings.
            network: gives it, where it is needed: one that `split.is_divisible`, on the CPU.
            on_wait: called about twice a second while it is made, with the seconds so far; may raise to stop.

        Returns:
            The path of the `.xml`; the `.bin` lies beside it.

        Raises:
            NoMemoryNow: when there is too little memory to make it.
            NotConverted: when it cannot be made or kept.
        """
        place = self._folder / _key(digest)
        if _is_whole(place):
            return place / CONVERTED
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return self._make(place, network, on_wait)
        except OSError as error:
            raise NotConverted(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def forget(self, digest: str) -> None:
        """Remove a conversion that turned out to be unusable."""
        shutil.rmtree(self._folder / _key(digest), ignore_errors=True)

    def _make(self, place: Path, network: Callable[[], nn.Module], on_wait: Callable[[float], None]) -> Path:
        seconds = 0.0
        lock = FileLock(self._folder / _LOCK)
        while True:
            try:
                with lock.acquire(timeout=POLL_SECONDS):
                    if not _is_whole(place):  # another process may have made it while this one waited
                        self._convert(place, network(), on_wait)
                    return place / CONVERTED
            except Timeout:
                seconds += POLL_SECONDS
                on_wait(seconds)

    def _convert(self, place: Path, network: nn.Module, on_wait: Callable[[float], None]) -> None:
        self._sweep(place)
        size = sum(each.nbytes for each in network.state_dict().values())
        self._check_room(size)
        self._check_memory(size)
        # Beside its place, so that the rename stays within a file system, and 0700, since a pickle is read from it.
        folder = Path(tempfile.mkdtemp(prefix=f"{place.name}{_UNFINISHED}", dir=self._folder))
        try:
            _hand_over(network, folder / NETWORK)
            _run_converter(folder, on_wait)
            (folder / NETWORK).unlink()
            _write_facts(folder)
            shutil.rmtree(place, ignore_errors=True)  # one that was broken
            folder.rename(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self, place: Path) -> None:
        """Remove what a killed process left of the same conversion; the lock says that none is at it."""
        for left in self._folder.glob(f"{place.name}{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _check_memory(self, size: int) -> None:
        wanted = _CONVERTER_BYTES + int(_MEMORY_FACTOR * size)
        left = self._memory_left()
        if left is not None and left < wanted:
            raise NoMemoryNow(f"converting takes {wanted // 10**6} MB of memory, and {left // 10**6} MB are free")

    def _check_room(self, size: int) -> None:
        wanted = int(_ROOM_FACTOR * size)
        free = shutil.disk_usage(self._folder).free
        if free < wanted:
            raise NotConverted(f"{self._folder} has room for {free // 10**6} MB, and {wanted // 10**6} are needed")


def _key(digest: str) -> str:
    """The name of a conversion: it changes with whatever could change its content."""
    made_by = [version(name) for name in ("openvino", "torch", "demucs")]
    return hashlib.sha256(json.dumps([digest, CONVERSION_VERSION, made_by]).encode()).hexdigest()[:32]


def _hand_over(network: nn.Module, path: Path) -> None:
    try:
        torch.save(network, path)
    except Exception as error:  # pickling runs the network's own code, and a full disk is a RuntimeError of torch
        raise NotConverted(f"the network cannot be written for the converter: {error}") from error


def _run_converter(folder: Path, on_wait: Callable[[float], None]) -> None:
    command = [sys.executable, "-P", "-m", "demucs_server_worker.separation.backends.conversion", str(folder)]
    seconds = 0.0
    with (
        (folder / "log").open("w+b") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as child,
    ):
        try:
            while True:
                try:
                    child.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    seconds += POLL_SECONDS
                    on_wait(seconds)
                if seconds > LIMIT_SECONDS:
                    raise NotConverted(f"converting took more than {LIMIT_SECONDS:g} seconds")
        finally:
            child.kill()
        log.seek(0)
        last = (log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    if child.returncode:
        raise NotConverted(f"converting ended with {child.returncode}: {last[:300]}")
    (folder / "log").unlink()


def _write_facts(folder: Path) -> None:
    """Hashes of what was written, on disk before the rename that makes them visible."""
    hashes = {}
    for name in (CONVERTED, WEIGHTS):
        hashes[name] = hash_file(folder / name)
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    with (folder / _FACTS).open("w", encoding="utf-8") as facts:
        json.dump(hashes, facts)
        facts.flush()
        os.fsync(facts.fileno())


def _is_whole(place: Path) -> bool:
    """Whether both files are what was written. OpenVINO maps them, and a shorter file would end the process."""
    try:
        hashes = json.loads((place / _FACTS).read_text(encoding="utf-8"))
        return all(hash_file(place / name) == hashes[name] for name in (CONVERTED, WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError):
        return False
