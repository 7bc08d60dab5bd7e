"""Work beside the model: an iterator read ahead in a thread, and a consumer fed from behind in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_END = object()
_POLL_SECONDS = 0.2  # how soon a thread that waits for room sees that nobody reads any more


class Ahead(Generic[T]):
    """Reads an iterable in a thread, at most `depth` items ahead of the reader. What it raises, the reader gets."""

    def __init__(self, source: Iterable[T], depth: int, name: str) -> None:
        """Args: source: what to read; depth: items to hold; name: of the thread."""
        self._items: Queue[object] = Queue(depth)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, args=(source,), name=name, daemon=True)
        self._thread.start()

    def _read(self, source: Iterable[T]) -> None:
        try:
            for item in source:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[T]:
        while (item := self._items.get()) is not _END:
            yield item  # type: ignore[misc]
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()


class Behind(Generic[T]):
    """Calls `consume` with each item pushed, in a thread, at most `depth` items behind the writer.

    What `consume` raises, the writer gets at its next `push` or at the end of the block.
    """

    def __init__(self, consume: Callable[[T], None], depth: int, name: str) -> None:
        """Args: consume: called with one item after the other; depth: items to hold; name: of the thread."""
        self._consume = consume
        self._items: Queue[object] = Queue(depth)
        self._failed = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (item := self._items.get()) is not _END:
            try:
                self._consume(item)  # type: ignore[arg-type]
            except BaseException as error:
                self._error = error
                self._failed.set()
                return

    def push(self, item: T) -> None:
        """Hand over an item; waits while `depth` are held already."""
        while not self._failed.is_set():
            try:
                self._items.put(item, timeout=_POLL_SECONDS)
            except Full:
                continue
            return
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Wait until all is consumed; after an error in the block, drop what is left."""
        if kind is not None:
            self._drop()
        self._finish()
        if kind is None:
            self._raise()

    def _drop(self) -> None:
        while True:
            try:
                self._items.get_nowait()
            except Empty:
                return

    def _finish(self) -> None:
        while self._thread.is_alive():
            try:
                self._items.put(_END, timeout=_POLL_SECONDS)
            except Full:
                continue
            self._thread.join()
