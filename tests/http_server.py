"""Real HTTP servers for tests, on loopback and a free port.

`serving(folder)` is a server inside this process, with the real manager, queue and pool and with scripted workers that
are up in a moment (see tests/workers.py): a task's `inputName` says what its worker does, e.g. `succeed`, `wait`,
`raise unreadable`, `busy` (until a file out/go is there). Paths below `folder` may be named by clients:

    @pytest.fixture(scope="module")
    def server(tmp_path_factory):
        with serving(tmp_path_factory.mktemp("server"), workers=2) as server:
            yield server

    def test_it(server):
        answer = server.client.post("/api/v1/tasks", json=server.submission("succeed"))
        done = server.until_state(answer.json()["id"], "completed")
        server.call(server.manager.cancel("…"))       # a coroutine on the server's own event loop

`commanded(folder)` is the installed command in a process of its own, with one real worker and the model `demo`:

    with commanded(tmp_path) as server:
        server.client.get("/api/v1/status")
        server.process.log("stopped")                 # see tests/servers.py
"""

from __future__ import annotations

import asyncio
import threading
import time
import wave
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.server.app import create_app, routed_app
from demucs_server_worker.server.http_server import HttpServer, bind
from demucs_server_worker.server.services import Services, opened
from tests import managers
from tests.servers import Server

T = TypeVar("T")

DEADLINE_SECONDS = 180.0
API = "/api/v1"


def described() -> dict[str, Any]:
    """The API's description of itself, OpenAPI, for which no server needs to run."""
    return routed_app().openapi()


def operations() -> list[tuple[str, str]]:
    """Method and path of every route in it."""
    return [(method.upper(), path) for path, item in described()["paths"].items() for method in item]


@dataclass
class Client:
    """What both kinds of server offer."""

    url: str
    folder: Path
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, headers=dict(self.headers), timeout=DEADLINE_SECONDS)

    def submission(self, script: str = "succeed", **fields: Any) -> dict[str, Any]:
        """The JSON of a task that makes a scripted worker do `script`, with its files below the server's folder."""
        song, out = self.folder / "song.wav", self.folder / "out"
        return {"inputPath": str(song), "outputDir": str(out), "inputName": script, **fields}

    def submit(self, script: str = "succeed", **fields: Any) -> dict[str, Any]:
        """Post such a task, and see that it is taken."""
        answer = self.client.post(f"{API}/tasks", json=self.submission(script, **fields))
        assert answer.status_code == 202, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def task(self, task_id: str) -> dict[str, Any]:
        """The task as the server shows it."""
        answer = self.client.get(f"{API}/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def until_state(self, task_id: str, *states: str) -> dict[str, Any]:
        """Poll until the task is in one of the states."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (task := self.task(task_id))["state"] not in states:
            assert time.monotonic() < deadline, f"in vain waited for {states}: {task}"
            time.sleep(0.01)
        return task


@dataclass
class InProcess(Client):
    """A server on an event loop in a thread of this process."""

    manager: WorkerManager = field(kw_only=True)
    services: Services = field(kw_only=True)
    loop: asyncio.AbstractEventLoop = field(kw_only=True)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's event loop and wait for what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_SECONDS)


@contextmanager
def serving(
    folder: Path, *, workers: int = 1, start: str = "well", headers: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[InProcess]:
    """A server inside this process with scripted workers.

    Args:
        folder: of its data; below it lie the songs and outputs that clients may name.
        workers, start: as for `managers.manager`.
        headers: that the client sends with each request, such as a key.
        settings: by their names.
    """
    (folder / "out").mkdir(exist_ok=True)
    write_song(folder / "song.wav")
    values = {"port": 0, "allowed_roots": str(folder), "shutdown_grace": 0, **settings}
    server = _Thread(managers.manager(folder, workers=workers, start=start, **values), folder, dict(headers or {}))
    try:
        yield server.started()
    finally:
        server.stop()


def write_song(path: Path, seconds: float = 1.0) -> Path:
    """Silence that passes for a song where nobody separates it."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(round(seconds * 8_000) * 2))
    return path


class _Thread:
    def __init__(self, manager: WorkerManager, folder: Path, headers: Mapping[str, str]) -> None:
        self._manager, self._folder, self._headers = manager, folder, headers
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="http server")

    def started(self) -> InProcess:
        self._thread.start()
        assert self._up.wait(DEADLINE_SECONDS), "the server did not start"
        if self._failure is not None:
            raise self._failure
        return self._server

    def stop(self) -> None:
        if self._failure is None:
            self._server.client.close()
            self._server.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._up.set()
            raise

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        sockets = bind(self._manager.settings)
        await self._manager.start()
        async with opened(self._manager) as services:
            http = HttpServer(create_app(services), sockets, most_connections=self._manager.settings.max_connections)
            await http.start()
            self._server = InProcess(
                http.url, self._folder, self._headers, manager=self._manager, services=services,
                loop=asyncio.get_running_loop(),
            )  # fmt: skip
            self._up.set()
            await self._over.wait()
            await self._manager.shutdown()
            await http.stop()


@dataclass
class Commanded(Client):
    """The command in a process of its own."""

    process: Server = field(kw_only=True)


@contextmanager
def commanded(
    folder: Path, *arguments: str, headers: Mapping[str, str] | None = None, **environment: str
) -> Iterator[Commanded]:
    """`demucs-server-worker serve` with one worker and the model `demo`.

    Args:
        folder: its data lie in `folder`/data, and clients may name paths below `folder`.
        arguments: more flags.
        headers: that the client sends with each request, such as a key.
        environment: more variables.
    """
    variables = {"DEMUCS_WORKER_PORT": "0", "DEMUCS_WORKER_ALLOWED_ROOTS": str(folder), **environment}
    with Server(folder / "data", *arguments, **variables) as process:
        server = Commanded(process.log("serving")["url"], folder, dict(headers or {}), process=process)
        try:
            yield server
        finally:
            server.client.close()
