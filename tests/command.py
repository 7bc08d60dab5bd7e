"""The installed command, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

COMMAND = (sys.executable, "-m", "demucs_server_worker")
DEADLINE_SECONDS = 120.0

STEMS = ("bass", "drums", "other", "vocals")


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without any setting of the package, and `variables`."""
    bare = ("MAX_WORKERS", "TASK_TIMEOUT", "LOG_LEVEL")
    kept = {name: value for name, value in os.environ.items() if name not in bare and "DEMUCS_WORKER" not in name}
    return {**kept, "COLUMNS": "120", **variables}


def run(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in the folder `cwd`."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=cwd, env=environment(**variables), capture_output=True, text=True,
        timeout=DEADLINE_SECONDS, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def started(*arguments: str | Path, cwd: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs; at the end of the block it and its children are gone, however the block ended."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], cwd=cwd, env=environment(**variables), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        family = family_of(process)
        process.kill()
        for child in family:
            if child.is_running():
                child.kill()
        process.communicate()


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The children of a process, and theirs."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that still run."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def objects(output: str) -> list[dict[str, Any]]:
    """The objects of an output of one JSON object a line."""
    return [json.loads(line) for line in output.splitlines()]


def song(path: Path, seconds: float = 2.0) -> Path:
    """A song of two notes and some noise at `path`, whose folder is made."""
    rate = 44_100
    time = np.arange(round(seconds * rate)) / rate
    left = 0.3 * np.sin(2 * np.pi * 110 * time) + 0.05 * np.random.default_rng(1).standard_normal(len(time))
    right = 0.3 * np.sin(2 * np.pi * 440 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([left, right], axis=1), rate, subtype="PCM_16")
    return path


def files_below(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too, relative to it and sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def result_files(*folders: str, ext: str = "wav") -> list[str]:
    """What `files_below` gives where each of the folders holds the stems of a song and its manifest."""
    return sorted(
        f"{folder}/{name}" for folder in folders for name in (*(f"{s}.{ext}" for s in STEMS), "manifest.json")
    )
