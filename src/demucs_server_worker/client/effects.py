"""What a client does to the world, as values.

Each verb of the clients is one generator, a *flow*: it yields one of these, is sent what came of it, and returns the
verb's result. It neither blocks nor awaits, so that the blocking and the asynchronous client share every line of it;
`blocking` and `asynchronous` only carry the values out. A flow closes no stream in a `finally`: whoever runs it closes
what it left open, however it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from demucs_server_worker.client.requests import Request

T = TypeVar("T")


class Unanswered(Exception):
    """No answer came.

    Attributes:
        sent: whether the request may have reached the server.
        detail: why, in a few words.
    """

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent


class Silent(Unanswered):
    """Nothing came for as long as the caller wanted to wait for it."""


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Stream(Protocol):
    """An answer that is read piece by piece."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Send:
    """Send the request and read the whole answer: a `Reply`. Raises Unanswered."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send the request and read no more than the head of the answer: a `Stream`. Raises Unanswered.

    Attributes:
        request: see there.
        silence_seconds: how long the server may say nothing.
    """

    request: Request
    silence_seconds: float


@dataclass(frozen=True)
class Read:
    """The next bytes of a stream, or None at its end. Raises Unanswered."""

    stream: Stream


@dataclass(frozen=True)
class Close:
    """End a stream that is not needed any more."""

    stream: Stream


@dataclass(frozen=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Do:
    """Work that may wait for a disk: its result, or its error."""

    work: Callable[[], object]


@dataclass(frozen=True)
class Tell:
    """Call a caller's function; the asynchronous client awaits what it gives, if that can be awaited."""

    listener: Callable[[Any], object]
    item: Any


@dataclass(frozen=True)
class Emit:
    """The next item of an iteration."""

    item: Any


Effect = Send | Open | Read | Close | Sleep | Do | Tell | Emit
Flow = Generator[Effect, Any, T]


class Walk(Generic[T]):
    """A flow on its way, one effect after the other.

    Attributes:
        result: what it returned, once it has.
    """

    result: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow

    def next(self, answer: object, failure: Exception | None) -> Effect | None:
        """What is to be done next, after the last one gave `answer` or `failure`; None when the flow is through.

        Raises:
            Exception: the one that ends the flow.
        """
        try:
            return self._flow.throw(failure) if failure is not None else self._flow.send(answer)
        except StopIteration as end:
            self.result = end.value
            return None

    def close(self) -> None:
        """End it wherever it is."""
        self._flow.close()


def send(request: Request) -> Flow[Reply]:
    """See `Send`."""
    return cast(Reply, (yield Send(request)))


def opened(request: Request, silence_seconds: float) -> Flow[Stream]:
    """See `Open`."""
    return cast(Stream, (yield Open(request, silence_seconds)))


def read(stream: Stream) -> Flow[bytes | None]:
    """See `Read`."""
    return cast("bytes | None", (yield Read(stream)))


def rest_of(stream: Stream, limit_bytes: int) -> Flow[bytes]:
    """What is left of a stream, which is closed then; no more than about `limit_bytes`."""
    body = b""
    while len(body) < limit_bytes and (chunk := (yield from read(stream))) is not None:
        body += chunk
    yield Close(stream)
    return body


def do(work: Callable[[], T]) -> Flow[T]:
    """See `Do`."""
    return cast(T, (yield Do(work)))
