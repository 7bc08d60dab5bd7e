"""`serve` as its user meets it over HTTP: its address, its refusals, its end. The command in a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.command import environment
from tests.http_server import API, Commanded, commanded
from tests.servers import noise, until

KEY = "the-key-of-this-test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    """One that asks for a key."""
    folder = tmp_path_factory.mktemp("server")
    with commanded(
        folder, headers={"X-API-Key": KEY}, DEMUCS_WORKER_API_KEYS=f"another,{KEY}", LOG_LEVEL="debug"
    ) as server:
        yield server


def refused(*flags: str, cwd: Path, **variables: str) -> str:
    """The one line with which `serve` refuses to start."""
    ran = subprocess.run(
        [sys.executable, "-m", "demucs_server_worker", "serve", *flags], capture_output=True, text=True, timeout=180,
        cwd=cwd, env=environment(DEMUCS_WORKER_DATA_DIR=str(cwd / "data"), **variables),
    )  # fmt: skip
    assert ran.returncode == 2, ran.stderr
    first, *rest = ran.stderr.splitlines()
    assert "Traceback" not in ran.stderr and len(rest) <= 1
    assert not (cwd / "data").exists(), "nothing has started"
    return first


def test_a_song_is_separated_over_http(server: Commanded) -> None:
    noise(server.folder / "song.wav", 2.0)
    task = server.submit("song.wav", twoStems="vocals")
    done = server.until_state(task["id"], "completed", "failed")
    assert done["error"] is None
    assert {stem["name"] for stem in done["stems"]} == {"vocals", "no_vocals"}
    assert all(Path(stem["path"]).exists() for stem in done["stems"])


def test_without_the_key_there_is_nothing_but_life(server: Commanded) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        for path in (f"{API}/status", f"{API}/tasks", f"{API}/nothing"):
            answer = stranger.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for wrong in ({"X-API-Key": KEY + "x"}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}):
            assert stranger.get(f"{API}/status", headers=wrong).status_code == 401
        assert stranger.get(f"{API}/health/live").status_code == 200
        assert stranger.get(f"{API}/session").json() == {"keyNeeded": True, "authenticated": False}
        assert stranger.get("/docs").status_code == 200
        for right in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"X-API-Key": "another"}):
            assert stranger.get(f"{API}/status", headers=right).status_code == 200


def test_a_page_shows_the_key_once(server: Commanded) -> None:
    with httpx.Client(base_url=server.url) as page:
        assert page.post(f"{API}/session", json={"key": "wrong"}).status_code == 401
        begun = page.post(f"{API}/session", json={"key": KEY}, headers={"Origin": server.url})
        cookie = begun.headers["Set-Cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "secure" not in cookie and KEY not in cookie
        assert page.get(f"{API}/status").status_code == 200
        assert page.get(f"{API}/session").json() == {"keyNeeded": True, "authenticated": True}
        kept = dict(page.cookies)
        assert page.post(f"{API}/tasks/x/cancel", headers={"Origin": "https://evil.example"}).status_code == 403
        assert page.delete(f"{API}/session").status_code == 204
        assert page.get(f"{API}/status").status_code == 401
        assert httpx.get(f"{server.url}{API}/status", cookies=kept).status_code == 401, "the server has forgotten it"
        behind = page.post(f"{API}/session", json={"key": KEY}, headers={"Origin": f"https://{server.url[7:]}"})
        assert behind.status_code == 403 or "secure" in behind.headers["Set-Cookie"].lower()


def test_no_key_is_in_the_log(server: Commanded) -> None:
    server.client.get(f"{API}/status", headers={"X-Request-ID": "the-last"})
    until(lambda: server.process.log("request")["request"] == "the-last", "the request is logged")
    assert KEY not in json.dumps(server.process.lines)
    line = server.process.lines[-1]
    assert (line["method"], line["path"], line["status"]) == ("GET", f"{API}/status", 200)


@pytest.mark.parametrize("flag", ["0.0.0.0", "::"])  # noqa: S104
def test_off_loopback_it_does_not_start_without_a_key(flag: str, tmp_path: Path) -> None:
    line = refused("--host", flag, "--port", "0", cwd=tmp_path)
    assert "DEMUCS_WORKER_API_KEYS" in line and flag in line


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--port", str(port), cwd=tmp_path)
    assert f"DEMUCS_WORKER_PORT={port}" in line and "--port" in line


def test_an_address_of_another_machine_is_told_too(tmp_path: Path) -> None:
    line = refused("--host", "192.0.2.7", "--port", "0", cwd=tmp_path, DEMUCS_WORKER_API_KEYS=KEY)
    assert "DEMUCS_WORKER_HOST=192.0.2.7" in line


def test_there_is_no_flag_for_a_key(tmp_path: Path) -> None:
    assert "--api-key" in refused("--api-key", KEY, cwd=tmp_path)


def test_it_listens_off_loopback_with_a_key_under_each_of_its_addresses(tmp_path: Path) -> None:
    with commanded(tmp_path, "--host", "0.0.0.0", DEMUCS_WORKER_API_KEYS=KEY) as server:  # noqa: S104
        port = httpx.URL(server.url).port
        answer = httpx.get(f"http://127.0.0.1:{port}{API}/status", headers={"X-API-Key": KEY})
        assert answer.status_code == 200
        hostile = httpx.get(f"http://127.0.0.1:{port}{API}/status", headers={"X-API-Key": KEY, "Host": "evil.example"})
        assert hostile.status_code == 403


def test_it_answers_while_it_drains_and_ends_streams_and_itself(tmp_path: Path) -> None:
    with commanded(tmp_path, DEMUCS_WORKER_SHUTDOWN_GRACE="300") as server:
        noise(tmp_path / "song.wav", 1_200.0)
        task_id = server.submit("song.wav")["id"]
        server.until_state(task_id, "running")
        with server.client.stream("GET", f"{API}/events") as stream:
            server.process.tell(signal.SIGTERM)
            until(lambda: not server.client.get(f"{API}/status").json()["accepting"], "it stops")
            late = server.client.post(f"{API}/tasks", json=server.submission("late"))
            assert (late.status_code, late.json()["code"]) == (503, "shutting_down")
            assert server.task(task_id)["state"] == "running"
            server.process.tell(signal.SIGTERM)
            assert b"".join(stream.iter_bytes()) is not None, "the stream came to its end"
        assert server.process.ended() == 0
        server.process.rest_of_the_log()
    assert [line["event"] for line in server.process.lines][-1] == "stopped"
    assert [line for line in server.process.lines if "Traceback" in str(line)] == []
