"""HTTP written by hand, for clients that lie, stall and break off."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import Any
from urllib.parse import urlsplit

DEADLINE_SECONDS = 180.0
BOUNDARY = "frontier"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def form(song: bytes, filename: str = "song.wav", **fields: str) -> bytes:
    """A form with a song in front of its fields."""
    return part("file", song, filename) + b"".join(part(name, text.encode()) for name, text in fields.items()) + END


def head(length: int | None, **headers: str) -> bytes:
    """The head of an upload. Args: length: that it declares; None for a body in chunks."""
    lines = {
        "Host": "127.0.0.1",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        **({"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return ("POST /api/v1/tasks HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items()) + "\r\n").encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a body; an empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@dataclass(frozen=True)
class Answer:
    """An answer. Attributes: ended: whether the server closed the connection behind it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    ended: bool

    @property
    def problem(self) -> dict[str, Any]:
        """The body as JSON."""
        problem: dict[str, Any] = json.loads(self.body)
        return problem


class Connection:
    """A connection to a server."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def break_off(self) -> None:
        """End with a reset, as a program does that dies."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()

    def answer_line(self) -> bytes:
        """The first line of the answer."""
        with self._socket.makefile("rb") as file:
            return file.readline()

    def answer(self) -> Answer:
        """The answer to the request under way, and whether the connection ends behind it."""
        with self._socket.makefile("rb") as file:
            status = int(file.readline().split()[1])
            headers = {}
            while line := file.readline().strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = file.read(int(headers["content-length"]))
            ended = headers.get("connection") == "close" and _is_over(file)
        return Answer(status, headers, body, ended)


def _is_over(file: BufferedReader) -> bool:
    try:
        return file.read(1) == b""
    except ConnectionResetError:  # what was sent after the server had closed is answered so
        return True


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection while the block runs."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE_SECONDS) as sock:
        yield Connection(sock)
