"""Delays between the starts of a worker that cannot boot."""

from __future__ import annotations

from demucs_server_worker.pool.backoff import Backoff


def test_delays_double_up_to_a_minute_and_start_again_after_a_reset() -> None:
    backoff = Backoff()
    assert [backoff.delay() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert [backoff.delay() for _ in range(2)] == [1, 2]
