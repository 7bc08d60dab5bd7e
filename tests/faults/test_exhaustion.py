"""File descriptors and processes run out: the health says so, nothing crashes, and all goes on when there are some."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("worker-without-files", ["worker-1 does not start", "Too many open files", "Raise `ulimit -n`"]),
        ("worker-without-processes", ["worker-1 does not start", "Resource temporarily unavailable"]),
        ("task-without-files", ["Raise `ulimit -n`"]),
    ],
)
def test_the_manager_says_what_ran_out_and_goes_on_when_there_is_some_again(
    what: str, words: list[str], tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults.exhausted_manager", what, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "DEMUCS_WORKER_LOG_FORMAT": "json"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    before, amid, after = (json.loads(line) for line in ran.stdout.splitlines())
    assert before == after == {"ok": True, "problems": []}
    assert amid["ok"] is False
    assert [word for word in words if not any(word in problem for problem in amid["problems"])] == []
    assert "never retrieved" not in ran.stderr
