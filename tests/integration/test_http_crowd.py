"""More connections than a server takes: a clean refusal, room for who asks how it is, and no more than that."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from demucs_server_worker.server import protocol
from tests.http_server import API, InProcess, serving
from tests.servers import until

MOST = 4


def connected(server: InProcess) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def ask(sock: socket.socket, server: InProcess, path: str) -> bytes:
    """The answer; empty where the server closes the connection instead."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.url.removeprefix('http://')}\r\n\r\n".encode())
    answer = b""
    while not (length := re.search(rb"content-length: (\d+)[^\0]*?\r\n\r\n", answer)) or (
        len(answer) < length.end() + int(length[1])
    ):
        if not (more := sock.recv(65_536)):
            break
        answer += more
    return answer


def test_past_the_most_connections_each_is_told_so_and_the_health_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "SPARE_CONNECTIONS", 2)
    with serving(tmp_path, max_connections=MOST) as server, ExitStack() as open_ones:
        held = [open_ones.enter_context(connected(server)) for _ in range(MOST)]
        for each in held:
            assert ask(each, server, f"{API}/status").startswith(b"HTTP/1.1 200 ")
        for path, status in ((f"{API}/status", 503), ("/", 503), (f"{API}/health/live", 200)):
            with connected(server) as further:
                answer = ask(further, server, path)
                assert answer.startswith(f"HTTP/1.1 {status} ".encode())
                assert b"connection: close" in answer.lower()
                if status == 503:
                    assert b"not_ready" in answer and b"MAX_CONNECTIONS" in answer and b"retry-after" in answer.lower()
                assert further.recv(1) == b"", "it is closed behind the answer"
        # Those that say nothing fill what is spare, and not more.
        for _ in range(2):
            open_ones.enter_context(connected(server))
        with connected(server) as unheard:
            try:
                answer = ask(unheard, server, f"{API}/health/live")
            except ConnectionError:
                answer = b""
            assert answer == b""
        assert ask(held[0], server, f"{API}/status").startswith(b"HTTP/1.1 200 "), "whoever was there first is served"


def test_a_connection_that_ends_makes_room_and_a_spare_one_that_is_silent_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "SPARE_HEAD_SECONDS", 0.05)

    def is_served() -> bool:
        with connected(server) as sock:
            return ask(sock, server, f"{API}/status").startswith(b"HTTP/1.1 200 ")

    with serving(tmp_path, max_connections=MOST) as server, ExitStack() as open_ones:
        held = [open_ones.enter_context(connected(server)) for _ in range(MOST)]
        for each in held:
            ask(each, server, f"{API}/status")
        with connected(server) as silent:
            assert silent.recv(1) == b""
        assert not is_served()
        held[0].close()
        until(is_served, "there is room again")
