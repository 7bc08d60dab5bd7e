"""The clients as their users run them, against a real server: that for Node.js by its own tests, and the examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import STEMS, files_below, song
from tests.http_server import Commanded, commanded
from tests.servers import noise

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "node"
OLDEST_NODE = 18
LONG_SECONDS = 1_200.0
DEADLINE_SECONDS = 180.0


def node() -> str:
    """The machine's Node.js."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no node on this machine")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version.strip()} is older than {OLDEST_NODE}")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    folder = tmp_path_factory.mktemp("server")
    song(folder / "song.wav")
    noise(folder / "long.wav", LONG_SECONDS)
    (folder / "text.mp3").write_text("no song")
    with commanded(folder) as server:
        yield server


def played(server: Commanded, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A program that finds the server by its environment."""
    environment = {**os.environ, "DEMUCS_WORKER_URL": server.url, "TEST_FOLDER": str(server.folder)}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )


def test_the_client_for_node_does_what_it_says(server: Commanded) -> None:
    ran = played(server, node(), "--test", "--test-reporter=tap", "test/client.test.js", cwd=CLIENT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^# pass 12$", ran.stdout, re.M) and re.search(r"^# skipped 0$", ran.stdout, re.M)


def test_the_example_for_programs_that_block(server: Commanded, tmp_path: Path) -> None:
    songs = [song(tmp_path / "one.wav", 1.0), song(tmp_path / "two.wav", 1.5)]
    ran = played(server, sys.executable, str(ROOT / "examples/client.py"), *map(str, songs), "out", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert files_below(tmp_path / "out") == [f"{name}/{stem}.flac" for name in ("one", "two") for stem in STEMS]
    assert f"one.wav: {tmp_path / 'out' / 'one' / 'vocals.flac'}\n" in ran.stdout


def test_the_example_for_asyncio(server: Commanded, tmp_path: Path) -> None:
    one = song(tmp_path / "one.wav", 1.0)
    ran = played(server, sys.executable, str(ROOT / "examples/async_client.py"), str(one), "out", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert files_below(tmp_path / "out") == ["one/no_vocals.mp3", "one/vocals.mp3"]
    assert "one.wav: completed 100%" in ran.stdout


def test_the_example_for_node(server: Commanded, tmp_path: Path) -> None:
    one = song(tmp_path / "one.wav", 1.0)
    ran = played(server, node(), str(ROOT / "examples/client.mjs"), str(one), "out", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert files_below(tmp_path / "out") == ["one/drums.flac", "one/vocals.flac"]
    assert "one.wav: out/one/vocals.flac" in ran.stdout


def test_the_package_holds_what_it_imports_and_needs_nothing_else() -> None:
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package and package["type"] == "module"
    sources = [name for name in package["files"] if name.endswith(".js")]
    for name in sources:
        for imported in re.findall(r'from "([^"]+)"', (CLIENT / name).read_text(encoding="utf-8")):
            if imported.startswith("./"):
                assert imported[2:] in package["files"]
            else:
                assert imported.startswith("node:") or imported == package["name"]


def test_every_call_is_typed() -> None:
    """The declarations name what the module has, and nothing that it lacks."""
    code = (
        "import * as m from './index.js'; const c = m.createClient();"
        "const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(c)).filter((n) => n !== 'constructor');"
        "console.log(JSON.stringify({ exports: Object.keys(m).sort(), methods: methods.sort() }));"
    )
    ran = subprocess.run(
        [node(), "--input-type=module", "-e", code], cwd=CLIENT, capture_output=True, text=True, check=True
    )
    found = json.loads(ran.stdout)
    types = (CLIENT / "index.d.ts").read_text(encoding="utf-8")
    assert set(re.findall(r"^export (?:function|class) (\w+)", types, re.M)) == set(found["exports"])
    (interface,) = re.findall(r"^export interface Client \{\n(.*?)^\}", types, re.M | re.S)
    assert set(re.findall(r"^  (?:readonly )?(\w+)[(:]", interface, re.M)) == set(found["methods"])
