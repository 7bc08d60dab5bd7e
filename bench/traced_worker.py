"""A worker that writes down when it does what: the real one, with a stopwatch around its steps. For bench.timeline.

Spans go to the file that BENCH_TRACE names, one JSON object a line, with epoch seconds.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from demucs_server_worker.separation import one_song
from demucs_server_worker.separation.mixdown import Mixdown
from demucs_server_worker.separation.network import Network
from demucs_server_worker.separation.sinks import Sinks
from demucs_server_worker.worker.main import main

TRACE = open(os.environ["BENCH_TRACE"], "a", buffering=1, encoding="utf-8")


def span(lane: str, begun: float) -> None:
    """Something ended now that began then."""
    TRACE.write(json.dumps({"lane": lane, "from": begun, "to": time.time()}) + "\n")


def timed(lane: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, timed."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        begun = time.time()
        try:
            return function(*args, **kwargs)
        finally:
            span(lane, begun)

    return wrapped


def timed_blocks(lane: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A generator whose every step is timed, not what happens between them."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        blocks = function(*args, **kwargs)
        while True:
            begun = time.time()
            try:
                block = next(blocks)
            except StopIteration:
                return
            finally:
                span(lane, begun)
            yield block

    return wrapped


def instrument() -> None:
    """Put the stopwatch around each step of a song."""
    Network.__call__ = timed("model", Network.__call__)  # type: ignore[method-assign]
    one_song.scan = timed("first pass", one_song.scan)
    one_song._at_model_rate = timed_blocks("decode", one_song._at_model_rate)
    for name in ("push_mix", "push_estimates"):
        setattr(Mixdown, name, timed("encode", getattr(Mixdown, name)))
    Sinks.finish = timed("encode", Sinks.finish)  # type: ignore[method-assign]
    for name in ("_describe", "_manifest"):
        setattr(one_song.OneSong, name, timed("hash", getattr(one_song.OneSong, name)))


if __name__ == "__main__":
    instrument()
    main(sys.argv[1:])
