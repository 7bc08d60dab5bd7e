"""`demucs-server-worker bench`, as a user runs it who wonders how many workers to have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from demucs_server_worker.machine import basics
from tests.command import DEADLINE_SECONDS, alive, environment, family_of, objects, run, started
from tests.model_repo import save_member, tiny_demucs


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_member(folder, "aaaa1111", tiny_demucs())
    return folder


def test_it_measures_each_way_to_compute_and_advises_one(tmp_path: Path, repo: Path) -> None:
    arguments = ["bench", "-n", "aaaa1111", "--repo", str(repo), "-w", "2", "--seconds", "0.1", "--json"]
    code = (
        "import sys\n"
        "from demucs_server_worker.cli.app import run\n"
        f"code = run({arguments!r})\n"
        "heavy = [name for name in ('torch', 'numpy', 'av', 'soundfile', 'demucs') if name in sys.modules]\n"
        "sys.exit(f'heavy: {heavy}' if heavy else code)\n"
    )
    own = environment(DEMUCS_WORKER_BACKEND="torch", DEMUCS_WORKER_PRECISION="fp32")
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    machine, *measured, best = objects(ran.stdout)
    assert (machine["event"], machine["device"], machine["members"]) == ("machine", "cpu", 1)
    assert (machine["segmentSeconds"], machine["strideSeconds"]) == (pytest.approx(4.2, abs=0.3), pytest.approx(3, 0.1))
    assert machine["floorSeconds"] == machine["operations"] / max(machine["matrixRates"].values())
    cores = basics.cores()
    expected = [("torch", "fp32", count, max(1, cores // count)) for count in (1, 2) if count <= cores]
    assert [(m["backend"], m["precision"], m["workers"], m["threads"]) for m in measured] == expected
    for each in measured:
        assert each["event"] == "measured"
        assert each["computeASecondOfAudio"] * each["passesASecond"] * machine["strideSeconds"] == pytest.approx(1)
        assert each["distanceToFloor"] * each["passesASecond"] * machine["floorSeconds"] == pytest.approx(1)
        assert each["peakBytes"] > 50e6  # torch alone takes more
    assert best["event"] == "best"
    assert best["maxWorkers"] in [each["workers"] for each in measured]
    assert "measuring: torch fp32, 1 × " in ran.stderr


def test_for_people_it_is_a_table_and_a_model_that_is_not_there_is_replaced_and_said_so(tmp_path: Path) -> None:
    own = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "DEMUCS_WORKER_BACKEND": "torch"}
    ran = run("bench", "-w", "1", "--seconds", "0.1", cwd=tmp_path, DEMUCS_WORKER_PRECISION="fp32", **own)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.startswith("htdemucs is not on this machine, so `demo` is measured")
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("demo: 1.1 million parameters, ")
    assert lines[4].split() == "backend precision workers × threads s a segment s a second of audio songs an hour × " \
        "the floor memory a worker".split()  # fmt: skip
    assert lines[5].split()[:5] == ["torch", "fp32", "1", "×", str(basics.cores())]
    assert lines[7].startswith("Best: MAX_WORKERS=1 (set: 2), with torch in fp32: ")


def test_a_model_that_nobody_has_is_named(tmp_path: Path) -> None:
    ran = run("bench", "-n", "nosuch", cwd=tmp_path)
    assert ran.returncode == 2
    assert "nosuch" in ran.stderr


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    with started("bench", "-n", "demo", "--seconds", "60", cwd=tmp_path) as bench:
        assert bench.stderr is not None
        assert bench.stderr.readline().startswith("measuring: looking at the machine")
        for line in bench.stderr:  # by then the child that looked at the machine is gone, and the next is there
            if line.startswith("measuring: torch"):
                break
        bench.stdout.readline()
        while not (family := family_of(bench)):
            assert bench.poll() is None
        os.kill(bench.pid, signal.SIGINT)
        assert bench.wait(DEADLINE_SECONDS) == 130
        _, left = psutil.wait_procs(
            family, DEADLINE_SECONDS
        )  # they were killed; a busy system takes its time to bury them
        assert alive(left) == []
