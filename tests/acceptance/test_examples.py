"""The examples, each run as its first line says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.task import TaskState
from tests.servers import DEADLINE_SECONDS, noise, until_gone

EXAMPLES = Path(__file__).parents[2] / "examples"
STEMS = {"drums", "bass", "other", "vocals"}
LONG_SECONDS = 1_200.0


@pytest.fixture
def songs(tmp_path: Path) -> list[Path]:
    return [noise(tmp_path / f"{name}.wav", 2.0) for name in ("one", "two")]


@contextmanager
def started(name: str, *arguments: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "DEMUCS_WORKER_MODEL": "demo", "DEMUCS_WORKER_DATA_DIR": str(folder / "data")}
    process = subprocess.Popen(
        [sys.executable, "-u", str(EXAMPLES / name), *map(str, arguments)], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(name: str, *arguments: Path, folder: Path) -> str:
    with started(name, *arguments, folder=folder) as process:
        out, errors = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, errors
        return out


def states(folder: Path) -> dict[str, tuple[TaskState, int]]:
    with TaskReader(folder / "data" / "queue.db") as reader:
        return {task.request.input_name: (task.state, task.attempt) for task in reader.page().tasks}


def test_add_task(songs: list[Path], tmp_path: Path) -> None:
    said = run("add_task.py", *songs, tmp_path / "out", folder=tmp_path)
    for song in songs:
        folder = tmp_path / "out" / "My Project" / song.stem
        assert {path.stem for path in folder.glob("*.flac")} == STEMS
        assert f"{song.name}: vocals is {folder / 'vocals.flac'}" in said


def test_add_task_tells_why_a_song_failed(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("no song at all")
    said = run("add_task.py", tmp_path / "text.mp3", tmp_path / "out", folder=tmp_path)
    assert re.match(r"text\.mp3: text\.mp3 .+\n$", said)


def test_high_priority(songs: list[Path], tmp_path: Path) -> None:
    last = noise(tmp_path / "urgent.wav", 2.0)
    said = run("high_priority.py", *songs, last, folder=tmp_path).splitlines()
    assert [line for line in said if line.startswith("started")] == [
        "started urgent.wav (high)", "started one.wav (low)", "started two.wav (low)",
    ]  # fmt: skip
    assert said[-1] == "completed two.wav"
    assert {path.stem for path in (tmp_path / "stems").glob("*/*.wav")} == STEMS


def test_monitoring(songs: list[Path], tmp_path: Path) -> None:
    said = run("monitoring.py", *songs, tmp_path / "out", folder=tmp_path).splitlines()
    assert re.fullmatch(r"\d queued, \d running, 0 completed", said[0])
    assert re.fullmatch(r"  worker-1: starting, 0%, \d+ MB", said[1])
    assert [line for line in said if "completed" in line][-1] == "0 queued, 0 running, 2 completed"


def test_graceful_shutdown(songs: list[Path], tmp_path: Path) -> None:
    long = [noise(tmp_path / f"long {number}.wav", LONG_SECONDS) for number in range(3)]
    with started("graceful_shutdown.py", *long, tmp_path / "out", folder=tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "working; Ctrl-C stops\n"
        for line in process.stderr:
            if '"event": "started"' in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0
    assert re.fullmatch(r"stopping: [12] running, [12] stay queued\nstopped\n", out)
    until_gone(family)
    assert set(states(tmp_path).values()) == {(TaskState.QUEUED, 1)}


def test_separate_script(songs: list[Path], tmp_path: Path) -> None:
    said = run("separate_script.py", *songs, tmp_path / "out", folder=tmp_path)
    paths = [tmp_path / "out" / song.stem / f"{stem}.mp3" for song in songs for stem in ("vocals", "no_vocals")]
    assert sorted(said.splitlines()) == sorted(map(str, paths))
    assert all(path.stat().st_size > 0 for path in paths)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_says_how_to_run_it(path: Path) -> None:
    if path.name == "arguments.py":
        return
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=180)
    assert ran.returncode == 1
    assert f"python examples/{path.name} SONG… [OUT]" in ran.stderr
