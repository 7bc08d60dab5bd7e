"""The receivers in docs/webhooks.md accept what the server signs, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from demucs_server_worker.webhooks import signature

ROOT = Path(__file__).parents[2]
SECRET = "a secret that nobody guesses"  # noqa: S105
BODY = '{"event": "completed", "name": "ü"}'


def example(language: str) -> str:
    (code,) = re.findall(
        rf"```{language}\n(.*?)```", (ROOT / "docs/webhooks.md").read_text(encoding="utf-8"), re.DOTALL
    )
    return str(code)


def cases() -> list[tuple[str, str, str, bool]]:
    now = time.time()
    header = signature.sign(SECRET, BODY.encode(), now)
    old = signature.sign(SECRET, BODY.encode(), now - 1_000)
    return [(SECRET, header, BODY, True), (SECRET, header, BODY + " ", False), (SECRET + "x", header, BODY, False),
            (SECRET, old, BODY, False)]  # fmt: skip


def test_the_receiver_in_python_verifies() -> None:
    scope: dict[str, Any] = {}
    exec(example("python"), scope)  # noqa: S102 - the page's own code is what is tested
    for secret, header, body, genuine in cases():
        assert scope["is_genuine"](secret, header, body.encode()) is genuine


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")
def test_the_receiver_for_node_verifies(tmp_path: Path) -> None:
    calls = [[secret, header, body] for secret, header, body, _ in cases()]
    script = example("js") + f"\nconsole.log(JSON.stringify({json.dumps(calls)}.map((call) => isGenuine(...call))));\n"
    (tmp_path / "receiver.mjs").write_text(script, encoding="utf-8")
    node = shutil.which("node") or "node"
    ran = subprocess.run([node, str(tmp_path / "receiver.mjs")], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [genuine for *_, genuine in cases()]
