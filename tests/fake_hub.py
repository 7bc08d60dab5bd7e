"""A loopback server that answers what `huggingface_hub` asks, with faults on demand."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Fault = Callable[[bytes], bytes]


def corrupted(content: bytes) -> bytes:
    """The same length, another content."""
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 64]) + content[middle + 64 :]


def broken_off(content: bytes) -> bytes:
    """The first half: the connection then ends before the length that was announced."""
    return content[: len(content) // 2]


class FakeHub(AbstractContextManager["FakeHub"]):
    """Repositories of files, served as the hub serves them.

    Attributes:
        repositories: `namespace/name` to file names to contents.
        faults: file name to what is done to the content of its next downloads, one a download.
        gate: cleared, downloads of weights wait halfway until it is set.
        downloads: how often each file was downloaded (GET).
        asked: every path that was asked for, of any method.
        agents: the User-Agent headers that came.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.halfway = threading.Event()
        self.downloads: Counter[str] = Counter()
        self.asked: list[str] = []
        self.agents: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, repository: str, folder: Path) -> None:
        """Serve every file of a folder as one repository."""
        self.repositories[repository] = {path.name: path.read_bytes() for path in folder.iterdir()}

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                if (content := self._content()) is not None:
                    self._headers(content)

            def do_GET(self) -> None:
                content = self._content()
                if content is None:
                    return
                name = self.path.rpartition("/")[2]
                hub.downloads[name] += 1
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
                faults = hub.faults.get(name, [])
                body = faults.pop(0)(content) if faults else content
                self._headers(content, start)
                self._send(body[start:], name)

            def _send(self, body: bytes, name: str) -> None:
                middle = len(body) // 2
                self.wfile.write(body[:middle])
                self.wfile.flush()
                if name.endswith(".safetensors"):
                    hub.halfway.set()
                    hub.gate.wait()
                self.wfile.write(body[middle:])
                self.close_connection = True

            def _content(self) -> bytes | None:
                hub.asked.append(self.path)
                hub.agents.add(self.headers.get("User-Agent", ""))
                repository, _, name = self.path.strip("/").partition("/resolve/main/")
                if repository not in hub.repositories:
                    self._refuse(401, "RepoNotFound")
                elif name not in hub.repositories[repository]:
                    self._refuse(404, "EntryNotFound")
                else:
                    return hub.repositories[repository][name]
                return None

            def _refuse(self, status: int, code: str) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _headers(self, content: bytes, start: int = 0) -> None:
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(content) - start))
                if self.path.endswith(".safetensors"):
                    self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
                    self.send_header("X-Linked-Size", str(len(content)))
                else:
                    blob = b"blob %d\0" % len(content) + content
                    self.send_header("ETag", f'"{hashlib.sha1(blob, usedforsecurity=False).hexdigest()}"')
                self.end_headers()

        return Handler
