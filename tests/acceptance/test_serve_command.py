"""`demucs-server-worker serve` as a service manager knows it: a process, signals, exit codes and a data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demucs_server_worker.task import TaskState
from tests.servers import Server, enqueue, noise, stored, until_gone, until_state

# Long enough to be caught while it runs, whatever the machine.
LONG_SECONDS = 1_200.0
MEDIUM_SECONDS = 12.0
SHORT_SECONDS = 2.0


def staging(folder: Path) -> list[Path]:
    return [*folder.glob("**/.demucs-server-worker-*"), *folder.glob("data/staging/*")]


def test_it_works_off_what_is_queued_and_says_what_it_does(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    song = noise(tmp_path / "song.wav", SHORT_SECONDS)
    low = enqueue(data, song, out / "low", priority="low")
    missing = enqueue(data, tmp_path / "missing.wav", out)
    high = enqueue(data, song, out / "high", priority="high")
    with Server(data) as server:
        serving = server.log("serving")
        assert (serving["workers"], serving["model"], serving["queued"]) == (1, "demo", 3)
        assert serving["data_dir"] == str(data) and "SIGTERM" in serving["stop"]
        for task in (high, low):
            until_state(data, task, TaskState.COMPLETED)
        server.tell()
        assert server.ended() == 0
        server.rest_of_the_log()
    assert stored(data, missing).state is TaskState.FAILED
    assert sorted(path.name for path in out.glob("*/*/*.wav")) == sorted(2 * ["bass.wav", "drums.wav", "other.wav",
                                                                             "vocals.wav"])  # fmt: skip
    starts = [line["task"] for line in server.lines if line["event"] == "started"]
    assert starts == [high.id, missing.id, low.id]
    about_tasks = [line for line in server.lines if line["event"] in ("started", "completed", "failed")]
    assert len(about_tasks) == 6
    assert all(line["attempt"] == 1 and line["worker"] == "worker-1" for line in about_tasks)
    # A file that is not there is no surprise: one line says so, and no stack frames do.
    assert [line["code"] for line in server.lines if line["event"] == "failed"] == ["input_not_found"]
    assert [line for line in server.lines if "Traceback" in str(line) or "File \\" in str(line)] == []
    assert server.lines[-1]["event"] == "stopped"


def test_sigterm_lets_the_running_task_finish_and_leaves_the_rest_queued(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    running = enqueue(data, noise(tmp_path / "one.wav", MEDIUM_SECONDS), out)
    waiting = enqueue(data, noise(tmp_path / "two.wav", SHORT_SECONDS), out)
    with Server(data, DEMUCS_WORKER_SHUTDOWN_GRACE="120") as server:
        server.log("started")
        family = server.family()
        server.tell()
        assert server.log("stopping")["running"] == 1
        assert server.ended() == 0
        until_gone(family)
    assert len(family) == 1
    assert stored(data, running).state is TaskState.COMPLETED
    assert (stored(data, waiting).state, stored(data, waiting).claim) == (TaskState.QUEUED, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once_and_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    task = enqueue(data, noise(tmp_path / "long.wav", LONG_SECONDS), tmp_path / "out")
    with Server(data, DEMUCS_WORKER_SHUTDOWN_GRACE="1h") as server:
        server.log("started")
        family = server.family()
        server.tell(number)
        server.log("stopping")
        server.tell(number)
        assert server.ended() == 0
        until_gone(family)
    after = stored(data, task)
    assert (after.state, after.attempt, after.history) == (TaskState.QUEUED, 1, ())
    assert staging(tmp_path) == []


def test_when_the_grace_period_is_over_the_task_returns_to_the_queue(tmp_path: Path) -> None:
    data = tmp_path / "data"
    task = enqueue(data, noise(tmp_path / "long.wav", LONG_SECONDS), tmp_path / "out")
    with Server(data, DEMUCS_WORKER_SHUTDOWN_GRACE="0") as server:
        server.log("started")
        server.tell()
        assert server.ended() == 0
    after = stored(data, task)
    assert (after.state, after.attempt, after.history) == (TaskState.QUEUED, 1, ())
    assert staging(tmp_path) == []


def test_sigterm_while_the_worker_starts_ends_it_with_its_worker(tmp_path: Path) -> None:
    data = tmp_path / "data"
    task = enqueue(data, noise(tmp_path / "song.wav", SHORT_SECONDS), tmp_path / "out")
    with Server(data) as server:
        server.log("serving")
        family = server.family()
        server.tell()
        assert server.ended() == 0
        until_gone(family)
        events = [line["event"] for line in [*server.lines, *server.rest_of_the_log()]]
    assert "worker_started" not in events and "worker_died" not in events
    assert stored(data, task).state is TaskState.QUEUED


def test_after_kill_9_a_new_server_does_what_was_running_again(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    task = enqueue(data, noise(tmp_path / "song.wav", MEDIUM_SECONDS), out)
    with Server(data) as server:
        server.log("started")
        family = server.family()
        server.tell(signal.SIGKILL)
        assert server.ended() == -signal.SIGKILL
        until_gone(family)
    assert stored(data, task).state is TaskState.RUNNING
    with Server(data, DEMUCS_WORKER_RETRY_DELAY="0") as server:
        after = until_state(data, task, TaskState.COMPLETED)
        server.tell()
        assert server.ended() == 0
    assert (after.attempt, len(after.history)) == (2, 1)
    assert {Path(stem.path).name for stem in after.stems} == {"drums.wav", "bass.wav", "other.wav", "vocals.wav"}
    assert all(Path(stem.path).exists() for stem in after.stems)
    assert staging(tmp_path) == []


def test_a_second_server_on_the_same_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        server.log("serving")
        second = subprocess.run(
            [sys.executable, "-m", "demucs_server_worker", "--data-dir", str(data)], capture_output=True, text=True,
            timeout=180,
        )  # fmt: skip
        assert second.returncode == 2 and "--data-dir" in second.stderr, "flags need the command's name"
        second = subprocess.run(
            [sys.executable, "-m", "demucs_server_worker"], capture_output=True, text=True, timeout=180,
            env={**os.environ, "DEMUCS_WORKER_DATA_DIR": str(data), "DEMUCS_WORKER_PORT": "0"},
        )  # fmt: skip
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1 and str(data) in second.stderr
        assert f"process {server.process.pid}" in second.stderr
        assert server.process.poll() is None


def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = subprocess.run(
        [sys.executable, "-m", "demucs_server_worker", "serve"], capture_output=True, text=True, timeout=180,
        env={**os.environ, "DEMUCS_WORKER_DATA_DIR": str(tmp_path / "file" / "data"), "DEMUCS_WORKER_PORT": "0"},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "cannot be written" in ran.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["-w", "none"], "MAX_WORKERS=none"), (["-w", "0"], "MAX_WORKERS=0"), (["--device", "toaster"], "toaster"),
     (["--config", "missing.toml"], "missing.toml"), (["--reload", "-w", "x"], "MAX_WORKERS=x")],
)  # fmt: skip
def test_a_wrong_setting_is_refused_before_anything_starts(flags: list[str], named: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    ran = subprocess.run(
        [sys.executable, "-m", "demucs_server_worker", "serve", "--data-dir", str(data), *flags], capture_output=True,
        text=True, timeout=180, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 2
    assert named in ran.stderr.splitlines()[0] and "Traceback" not in ran.stderr
    assert not data.exists()


def test_reload_starts_anew_on_a_change_and_loses_nothing(tmp_path: Path) -> None:
    data, source = tmp_path / "data", tmp_path / "source"
    source.mkdir()
    task = enqueue(data, noise(tmp_path / "song.wav", LONG_SECONDS), tmp_path / "out")
    with Server(data, "--reload-dir", str(source)) as server:
        server.log("started")
        (first,) = [p for p in server.family() if "cli.reload" in " ".join(p.cmdline())]
        (source / "notes.txt").write_text("not a source")
        (source / "code.py").write_text("x = 1")
        assert server.log("changed, starting anew")["files"] == ["code.py"]
        server.log("stopped")
        assert server.log("serving")["queued"] == 1
        until_gone([first])
        again = server.log("started")
        assert (again["task"], again["attempt"]) == (task.id, 1)
        family = server.family()
        server.tell()
        assert server.ended() == 0
        until_gone(family)
    after = stored(data, task)
    assert (after.state, after.attempt, after.claim, after.history) == (TaskState.QUEUED, 1, 2, ())
    assert staging(tmp_path) == []


def test_reload_outlives_a_server_that_crashes_and_takes_a_refusal_for_an_answer(tmp_path: Path) -> None:
    data, source = tmp_path / "data", tmp_path / "source"
    source.mkdir()
    with Server(data, "--reload-dir", str(source)) as server:
        server.log("serving")
        (child,) = [p for p in server.family() if "cli.reload" in " ".join(p.cmdline())]
        child.kill()
        assert server.log("the server ended; it is started anew at the next change")["exit_code"] == -signal.SIGKILL
        (source / "code.py").write_text("x = 2")
        server.log("serving")
        with Server(data, "--reload-dir", str(source)) as second:
            assert second.ended() == 2
        server.tell(signal.SIGINT)
        assert server.ended() == 0
