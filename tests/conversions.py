"""Converted models for tests: a cache of its own for each, and programs that run beside the test."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

from torch import nn

from demucs_server_worker.separation.backends import cache
from demucs_server_worker.separation.backends.conversion import CONVERTED, WEIGHTS
from demucs_server_worker.separation.models import LoadedModel
from tests import model_repo


def quiet(seconds: float) -> None:
    """Waits for a conversion, and says nothing."""


def loaded(*members: nn.Module, name: str = "tiny", digest: str = "tiny_htdemucs") -> LoadedModel:
    """A bag of `members`."""
    rows = tuple((1.0,) * 4 for _ in members)
    return LoadedModel(name, tuple(model_repo.SOURCES), 44_100, 2, members, rows, digest)


class FakeConverter:
    """Stands in for the converter's process: writes two files, and counts how often."""

    def __init__(self, content: bytes = b"converted", fail: Callable[[], None] = lambda: None) -> None:
        self.runs = 0
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self._content = content
        self._fail = fail

    def __call__(self, folder: Path, on_wait: Callable[[float], None]) -> None:
        self.runs += 1
        self.begun.set()
        assert self.may_end.wait(30)
        self._fail()
        for name in (CONVERTED, WEIGHTS):
            (folder / name).write_bytes(self._content)


def converter_command(folder: Path) -> list[str]:
    """As `cache` starts it."""
    return [sys.executable, "-P", "-m", "demucs_server_worker.separation.backends.conversion", str(folder)]


def names_in(folder: Path) -> list[str]:
    """What a cache holds, but for its locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def key(digest: str) -> str:
    """The name of a conversion in its cache."""
    return cache._key(digest)
