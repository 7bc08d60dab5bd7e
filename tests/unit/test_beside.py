"""Threads beside the model: what they pass on, what they hold back, and that none of them stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from demucs_server_worker.separation.beside import Ahead, Behind

pytestmark = pytest.mark.timeout(60)

PATIENCE_SECONDS = 20


class Broken(Exception):
    pass


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# --- Ahead ------------------------------------------------------------------------------------------------------------


def test_a_reader_gets_everything_in_order() -> None:
    with Ahead(range(50), 2, "decode") as ahead:
        assert list(ahead) == list(range(50))


def test_reading_runs_ahead_by_the_depth_and_no_further() -> None:
    read: list[int] = []
    seen = threading.Event()

    def source() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            if number == 3:
                seen.set()
            yield number

    with Ahead(source(), 2, "decode") as ahead:
        reader = iter(ahead)
        assert next(reader) == 0
        assert seen.wait(PATIENCE_SECONDS)  # 0 is out, 1 and 2 wait in the queue, 3 is held
        assert read == [0, 1, 2, 3]
        assert next(reader) == 1


def test_an_error_comes_behind_what_was_read_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise Broken

    got = []
    with pytest.raises(Broken), Ahead(source(), 5, "decode") as ahead:
        for item in ahead:
            got.append(item)  # noqa: PERF402 (what came before the error is wanted)
    assert got == [1, 2]


def test_a_reader_that_goes_away_ends_the_reading_and_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    with pytest.raises(Broken), Ahead(source(), 1, "decode") as ahead:
        for _ in ahead:
            raise Broken
    assert closed.wait(PATIENCE_SECONDS)


def test_a_reader_that_never_reads_ends_it_too() -> None:
    with Ahead(range(1_000_000), 1, "decode"):
        pass


# --- Behind -----------------------------------------------------------------------------------------------------------


def test_all_is_consumed_in_order_when_the_block_ends() -> None:
    got: list[int] = []
    with Behind(got.append, 2, "write") as behind:
        for number in range(50):
            behind.push(number)
    assert got == list(range(50))


def test_the_writer_runs_ahead_by_the_depth_and_no_further() -> None:
    go = threading.Event()
    with Behind(lambda item: go.wait(PATIENCE_SECONDS) or None, 2, "write") as behind:
        pushed: list[int] = []

        def push() -> None:
            for number in range(10):
                behind.push(number)
                pushed.append(number)

        pusher = threading.Thread(target=push)
        pusher.start()
        pusher.join(0.3)
        # One is being consumed and two wait; a push that returned earlier would mean that more is held.
        assert pusher.is_alive()
        assert len(pushed) <= 3
        go.set()
        pusher.join(PATIENCE_SECONDS)
    assert pushed == list(range(10))


def failing_at(failing: int) -> tuple[list[int], Behind[int]]:
    got: list[int] = []

    def consume(item: int) -> None:
        if item == failing:
            raise Broken
        got.append(item)

    return got, Behind(consume, 2, "write")


def test_the_writer_gets_the_consumers_error_though_the_queue_is_full() -> None:
    got, behind = failing_at(3)
    with pytest.raises(Broken), behind:
        for number in range(1_000):
            behind.push(number)
        pytest.fail("nobody told the writer")
    assert got == [0, 1, 2]


def test_the_last_items_error_comes_at_the_end_of_the_block() -> None:
    _, behind = failing_at(1)
    with pytest.raises(Broken), behind:
        behind.push(0)
        behind.push(1)


def test_an_error_in_the_block_drops_what_waits_and_is_the_one_reported() -> None:
    got: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def consume(item: int) -> None:
        begun.set()
        assert go.wait(PATIENCE_SECONDS)
        got.append(item)

    with pytest.raises(Broken), Behind(consume, 5, "write") as behind:
        for number in range(4):
            behind.push(number)
        assert begun.wait(PATIENCE_SECONDS)
        threading.Timer(0.2, go.set).start()
        raise Broken
    assert got == [0]


def test_an_error_in_the_block_outranks_the_consumers() -> None:
    def consume(item: int) -> None:
        raise ValueError

    with pytest.raises(Broken), Behind(consume, 1, "write") as behind:
        behind.push(0)
        raise Broken
