"""Splitting what a worker writes into lines."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.pool.lines import LineReader


def read(pieces: list[bytes], longest: int = 1_000, with_overflow: bool = False) -> tuple[list[bytes], int]:
    """The lines that come of `pieces`, and how often an overflow was told."""
    lines: list[bytes] = []
    overflows: list[None] = []

    async def feed() -> None:
        on_overflow = (lambda: overflows.append(None)) if with_overflow else None
        reader = LineReader(lines.append, longest=longest, on_overflow=on_overflow)
        for piece in pieces:
            reader.data_received(piece)
        reader.connection_lost(None)
        assert reader.ended.done()

    asyncio.run(feed())
    return lines, len(overflows)


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_do_not_depend_on_how_they_were_cut(lines: list[bytes], size: int) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    data = b"".join(line + b"\n" for line in lines)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert read(pieces) == (lines, 0)


def test_a_last_line_without_its_end_is_a_line() -> None:
    assert read([b"one\ntw", b"o"]) == ([b"one", b"two"], 0)


def test_a_line_that_is_too_long_comes_in_pieces() -> None:
    assert read([b"abcdefgh\nij\n"], longest=3) == ([b"abc", b"def", b"gh", b"ij"], 0)


def test_a_line_without_end_is_not_kept_in_memory() -> None:
    lines, _ = read([b"x" * 4] * 100, longest=10)
    assert b"".join(lines) == b"x" * 400
    assert max(map(len, lines)) <= 10


def test_an_overflow_is_told_once_and_the_rest_is_dropped() -> None:
    pieces = [b"ok\n", b"x" * 20, b"y" * 20, b"\nlate\n"]
    assert read(pieces, longest=10, with_overflow=True) == ([b"ok"], 1)
