"""Receivers of webhooks: real HTTP servers on loopback that take, refuse, hang or redirect, as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

DEADLINE_SECONDS = 180.0


@dataclass(frozen=True)
class Told:
    """One request: its path, its headers by lower-case name, its body as it came and as JSON."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    json: Any

    @property
    def event(self) -> str:
        event: str = self.json["event"]
        return event


class Receiver:
    """Listens on `host` and a free port, or on `port`; answers each request with the status that `answer` gives.

    `answer` runs in a thread of the request: it may wait, and keep the sender waiting. 302 redirects to `/elsewhere`.
    """

    def __init__(
        self, answer: Callable[[Told], int] = lambda told: 204, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.told: list[Told] = []
        self._answer = answer
        self._news = threading.Condition()
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.netloc = f"{host}:{self.port}"
        self.url = f"http://{self.netloc}/hooks"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, number: int, such: Callable[[Told], bool] = lambda told: True) -> list[Told]:
        """Wait until `number` requests came that are `such`."""
        with self._news:
            came = self._news.wait_for(lambda: len([*filter(such, self.told)]) >= number, DEADLINE_SECONDS)
            found = [*filter(such, self.told)]
        assert came, f"{len(found)} of {number} came: {[told.json for told in self.told]}"
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                told = Told(self.path, headers, body, json.loads(body))
                with receiver._news:
                    receiver.told.append(told)
                    receiver._news.notify_all()
                status = receiver._answer(told)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
