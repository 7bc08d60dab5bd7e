"""`demucs-server-worker doctor`, as somebody in trouble runs it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from demucs_server_worker.errors import InputNotFound
from demucs_server_worker.queue.task_queue import TaskQueue
from tests.command import run
from tests.servers import Server, enqueue, noise

TROUBLES = ["A worker does not start?", "A worker crashes?", "It is slow?"]


def checks(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the checks by name."""
    values = {"DEMUCS_WORKER_DATA_DIR": str(tmp_path / "data"), "DEMUCS_WORKER_MODEL": "demo",
              "DEMUCS_WORKER_PORT": "0", **environment}  # fmt: skip
    ran = run("doctor", "--json", *arguments, cwd=tmp_path, **values)
    assert "Traceback" not in ran.stderr, ran.stderr
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    # What does not fail or warn needs no mend, and all else says one.
    assert all((check["mend"] is None) == (check["verdict"] == "ok") for check in found)
    return ran.returncode, {f"{check['check']}, {check['trouble']}": check for check in found}


def named(found: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return next(check for key, check in found.items() if key.startswith(f"{name}, "))


def test_a_sound_machine_passes_and_a_worker_really_separates(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    code, found = checks(tmp_path)
    assert code == 0
    assert [key for key, check in found.items() if check["verdict"] == "failed"] == []
    assert named(found, "trial")["found"].startswith("a worker booted and separated half a second")
    assert named(found, "device")["verdict"] == "ok"
    assert named(found, "codecs")["found"] == "all formats can be read and written"
    assert {check["trouble"] for check in found.values()} == {
        "a worker does not start", "a worker crashes", "it is slow",
    }  # fmt: skip
    assert not (tmp_path / "data").exists(), "a doctor only looks"
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_for_people_it_is_grouped_by_trouble_and_quick_leaves_out_what_takes_time(tmp_path: Path) -> None:
    ran = run("doctor", "--quick", cwd=tmp_path, DEMUCS_WORKER_MODEL="demo", DEMUCS_WORKER_DATA_DIR="data")
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert [line for line in lines if line.endswith("?")] == TROUBLES
    assert all(line[:4] in ("  ✓ ", "  ! ", "    ") for line in lines[1:-1] if line and line not in TROUBLES)
    assert "trial" not in ran.stdout and "torch:" not in ran.stdout
    assert ran.stdout.endswith(("All is well.\n", "to think about.\n"))


def test_a_wrong_setting_fails_with_its_mend_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    code, found = checks(tmp_path, "--quick", MAX_WORKERS="many")
    assert code == 1
    settings = named(found, "settings")
    assert (settings["verdict"], "MAX_WORKERS=many" in settings["found"]) == ("failed", True)
    assert len(found) > 10


def test_a_device_that_is_not_there_fails_the_check_and_the_trial(tmp_path: Path) -> None:
    code, found = checks(tmp_path, DEMUCS_WORKER_DEVICE="cuda:7")
    assert code == 1
    assert named(found, "device")["verdict"] == "failed"
    trial = named(found, "trial")
    assert trial["verdict"] == "failed" and "cuda:7" in trial["found"]


def test_workers_that_do_not_fit_into_memory_fail(tmp_path: Path) -> None:
    code, found = checks(tmp_path, "--quick", MAX_WORKERS="256", DEMUCS_WORKER_MODEL="htdemucs_ft")
    memory, workers = named(found, "memory"), named(found, "MAX_WORKERS")
    fits = psutil.virtual_memory().total > 400 * 10**9
    assert (code, memory["verdict"]) == ((0, memory["verdict"]) if fits else (1, "failed"))
    assert "256 at once" in workers["found"]


def test_a_data_folder_that_cannot_be_used_fails(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    code, found = checks(tmp_path, "--quick", DEMUCS_WORKER_DATA_DIR=str(tmp_path / "data" / "inside"))
    assert code == 1
    assert named(found, "data folder")["verdict"] == "failed"


def test_a_damaged_queue_fails(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "queue.db").write_bytes(b"no database" * 500)
    code, found = checks(tmp_path, "--quick")
    assert (code, named(found, "queue")["verdict"]) == (1, "failed")


def test_a_server_that_runs_is_seen_and_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    enqueue(data, noise(tmp_path / "song.wav", 2.0), tmp_path / "out", file_id="mine")
    with Server(data) as server:
        server.log("serving")
        code, found = checks(tmp_path, "--quick")
        assert f"process {server.process.pid} runs" in named(found, "manager")["found"]
        assert code == 0
        server.log("completed")
        server.tell()
        assert server.ended() == 0
    assert "no worker manager" in named(checks(tmp_path, "--quick")[1], "manager")["found"]


def test_a_port_that_another_has_fails(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, found = checks(tmp_path, "--quick", DEMUCS_WORKER_PORT=str(port))
    assert (code, named(found, "port")["verdict"]) == (1, "failed")
    assert "DEMUCS_WORKER_PORT" in named(found, "port")["mend"]


def test_a_server_that_others_could_reach_without_a_key_fails(tmp_path: Path) -> None:
    code, found = checks(tmp_path, "--quick", DEMUCS_WORKER_HOST="192.0.2.1")
    assert (code, named(found, "port")["verdict"]) == (1, "failed")
    assert "DEMUCS_WORKER_API_KEYS" in named(found, "port")["mend"]


@pytest.mark.parametrize("name", ["a\x1b[2Jb.wav"])
def test_a_hostile_name_among_the_failures_cannot_act_on_the_terminal(name: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    enqueue(data, tmp_path / "missing.wav", tmp_path / "out", input_name=name)
    queue = TaskQueue(data / "queue.db")
    task = queue.claim("worker-1", 1.0)
    assert task is not None
    queue.fail(task, InputNotFound(path=name).info, 2.0)
    queue.close()
    ran = run("doctor", "--quick", cwd=tmp_path, DEMUCS_WORKER_MODEL="demo", DEMUCS_WORKER_DATA_DIR=str(data))
    assert "1 × input_not_found" in ran.stdout
    assert "\x1b[2J" not in ran.stdout and "\\x1b[2J" in ran.stdout
