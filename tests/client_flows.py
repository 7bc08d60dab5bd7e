"""A world for the clients' flows without network and time: what the server says is a script, sleeping moves a clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from demucs_server_worker.client.effects import (
    Close,
    Do,
    Emit,
    Flow,
    Open,
    Read,
    Reply,
    Send,
    Sleep,
    Tell,
    Unanswered,
    Walk,
)
from demucs_server_worker.client.requests import Request
from demucs_server_worker.client.server import Patience, Server

T = TypeVar("T")


@dataclass
class Body:
    """An answer that is read in pieces; an exception among them is raised there."""

    pieces: Sequence[bytes | Exception]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    closed: bool = False


class World:
    """Carries out effects by a script: for each request, what `answer` gives."""

    def __init__(self, answer: Callable[[Request], Any], patience: Patience | None = None) -> None:
        self.now = 0.0
        self.server = Server(url="http://x", patience=patience or Patience(), clock=lambda: self.now)
        self.requests: list[Request] = []
        self.slept: list[float] = []
        self.emitted: list[Any] = []
        self._answer = answer

    def play(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        walk, answer, failure = Walk(flow), None, None
        while (effect := walk.next(answer, failure)) is not None:
            answer, failure = None, None
            try:
                answer = self._do(effect)
            except Exception as error:
                failure = error
        return walk.result

    def _do(self, effect: object) -> object:
        match effect:
            case Send(request) | Open(request):
                self.requests.append(request)
                said = self._answer(request)
                if isinstance(said, Exception):
                    raise said
                if isinstance(effect, Open) and isinstance(said, Reply):
                    return Body([said.body], said.status, said.headers)
                return said
            case Read(Body() as body):
                if not body.pieces:
                    return None
                piece, body.pieces = body.pieces[0], body.pieces[1:]
                if isinstance(piece, Exception):
                    raise piece
                return piece
            case Close(Body() as body):
                body.closed = True
            case Sleep(seconds):
                self.slept.append(seconds)
                self.now += seconds
            case Do(work):
                return work()
            case Tell(listener, item):
                return listener(item)
            case Emit(item):
                self.emitted.append(item)
            case _:
                raise AssertionError(effect)
        return None


def script(*said: Any) -> Callable[[Request], Any]:
    """One answer after the other."""
    left = list(said)
    return lambda request: left.pop(0)


def refused() -> Unanswered:
    """No connection."""
    return Unanswered("connection refused", sent=False)


def broken() -> Unanswered:
    """A connection that broke once the request was on its way."""
    return Unanswered("the connection broke off", sent=True)


def said(status: int, body: Any = None, **headers: str) -> Reply:
    """An answer with JSON."""
    named = {name.replace("_", "-"): headers[name] for name in headers}
    return Reply(status, named, b"" if body is None else json.dumps(body).encode())


def problem(status: int, code: str, *, retryable: bool = False, **headers: str) -> Reply:
    """A refusal."""
    body = {"title": "No", "status": status, "detail": f"the sentence about {code}", "code": code,
            "retryable": retryable}  # fmt: skip
    return said(status, body, **headers)


def task(state: str = "queued", **changes: Any) -> dict[str, Any]:
    """A task as the server shows it."""
    return {
        "id": "a" * 32, "fileId": None, "projectName": None, "priority": "normal", "state": state, "attempt": 1,
        "maxAttempts": 3, "progress": 0.0, "stage": "queued", "createdAt": "2026-05-01T12:00:00.000Z",
        "startedAt": None, "finishedAt": None, "inputName": "song.wav", "durationSeconds": None, "options": {},
        "stems": [], "error": None, **changes,
    }  # fmt: skip


def stream(*events: tuple[str, dict[str, Any]], first: int = 1, then: Exception | None = None) -> Body:
    """A stream of events, each with the state of the task, that ends or breaks off."""
    pieces: list[bytes | Exception] = [
        f"id: life-{number}\nevent: {kind}\ndata: {json.dumps(event(kind, body))}\n\n".encode()
        for number, (kind, body) in enumerate(events, first)
    ]
    return Body([*pieces, *([then] if then else [])], headers={"content-type": "text/event-stream"})


def event(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """An event as the server tells it."""
    return {"event": kind, "at": "2026-05-01T12:00:00.000Z", "taskId": body["id"], "task": body}
