"""`demucs-server-worker --help`, and what every command has in common."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demucs_server_worker import __version__
from tests.command import environment, run

COMMANDS = (
    "serve", "separate", "submit", "status", "tasks", "cancel", "retry", "delete", "demo", "models", "doctor", "bench",
)  # fmt: skip


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_goes_to_a_pipe_without_control_characters(tmp_path: Path, command: tuple[str, ...]) -> None:
    ran = run(*command, "--help", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"Usage: demucs-server-worker {' '.join(command)}".strip() in ran.stdout
    assert "\x1b" not in ran.stdout


def test_the_installed_script_is_the_same_command(tmp_path: Path) -> None:
    script = shutil.which("demucs-server-worker", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is on the path without being installed")
    ran = subprocess.run(
        [script, "--version"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"demucs-server-worker {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("models", "--json"),
        ("doctor", "--quick"),
        ("bench", "--help"),
        ("separate", "missing.wav", "-n", "demo"),
        ("separate", "--help"),
        ("status", "--url", "http://127.0.0.1:9"),
    ],
)
def test_no_command_loads_what_belongs_in_a_worker(tmp_path: Path, command: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from demucs_server_worker.cli.app import run\n"
        f"run({list(command)!r})\n"
        "heavy = [name for name in ('torch', 'numpy', 'av', 'soundfile', 'demucs') if name in sys.modules]\n"
        "sys.stderr.write(f'heavy: {heavy}')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert ran.stderr.endswith("heavy: []")


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    line = f"{sys.executable} -m demucs_server_worker models | head -n 1"
    ran = subprocess.run(
        ["/bin/sh", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert re.match(r"demo\t", ran.stdout)
    assert ran.stderr == ""


def test_names_that_the_terminals_encoding_lacks_are_no_reason_to_stop(tmp_path: Path) -> None:
    ran = run("separate", "音楽.wav", "-n", "demo", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert ran.returncode == 1
    assert r"\u97f3\u697d.wav" in ran.stderr


def test_help_does_not_wait_for_what_only_speaking_to_a_server_needs(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from demucs_server_worker.cli.app import run\n"
        "run(['submit', '--help'])\n"
        "sys.stderr.write(str([name for name in ('httpx', 'uvicorn', 'fastapi') if name in sys.modules]))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert ran.stderr == "[]"
