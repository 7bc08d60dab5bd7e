"""The history that listeners follow: bounded, resumable, without a gap between what was and what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.server.history import Entry, Follower, History, Missed

LONG_SECONDS = 30.0


def entry(seq: int, task_id: str | None = None, *, progress: bool = False, size: int = 1) -> Entry:
    return Entry(seq=seq, task_id=task_id, frame=b"x" * size, is_progress=progress)


def history(*entries: Entry, **bounds: int) -> History:
    made = History(**bounds)
    for each in entries:
        made.append(each)
    return made


def seqs(entries: list[Entry]) -> list[int]:
    return [each.seq for each in entries]


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, LONG_SECONDS))


def test_it_gives_what_came_after_a_number_of_all_or_of_one_task() -> None:
    made = history(entry(1, "a"), entry(2, "b"), entry(3), entry(4, "a"))
    assert seqs(made.after(0)) == [1, 2, 3, 4]
    assert seqs(made.after(2)) == [3, 4]
    assert seqs(made.after(0, "a")) == [1, 4]
    assert made.after(4) == []


def test_only_the_newest_progress_of_a_task_is_kept() -> None:
    made = history(*(entry(seq, "ab"[seq % 2], progress=True) for seq in range(1, 101)))
    assert seqs(made.after(0)) == [99, 100]
    made.append(entry(101, "a"))
    assert seqs(made.after(0)) == [99, 101]


def test_past_its_bounds_the_oldest_go_and_who_wants_them_is_told() -> None:
    for made in (
        history(*map(entry, range(1, 11)), most_entries=4),
        history(*(entry(seq, size=25) for seq in range(1, 11)), most_bytes=100),
    ):
        assert seqs(made.after(6)) == [7, 8, 9, 10]
        with pytest.raises(Missed):
            made.after(5)


def test_progress_that_was_replaced_takes_no_room() -> None:
    made = history(most_entries=4, most_bytes=300)
    for seq in range(1, 1001):
        made.append(entry(seq, "a", progress=True, size=100))
    assert seqs(made.after(0)) == [1000]


def test_an_id_is_a_place_in_this_life_only() -> None:
    made, other = history(entry(7)), history(entry(7))
    assert made.place(made.id_of(7)) == 7 and made.place(made.id_of(0)) == 0
    for wrong in (other.id_of(7), made.id_of(8), "", "7", made.epoch, f"{made.epoch}-", f"{made.epoch}--1",
                  f"{made.epoch}-x", f"{made.epoch}-²", f"{made.epoch}-{'9' * 30}", "-7"):  # fmt: skip
        assert made.place(wrong) is None


def test_a_follower_gets_what_is_there_at_once_and_then_what_comes() -> None:
    async def scene() -> None:
        made = history(entry(1), entry(2))
        follower = Follower(made, 1)
        assert seqs(await follower.news(LONG_SECONDS)) == [2]
        coming = asyncio.create_task(follower.news(LONG_SECONDS))
        while not made.waiting:
            await asyncio.sleep(0)
        made.append(entry(3))
        made.append(entry(4))
        assert seqs(await coming) == [3, 4]
        assert made.waiting == 0

    run(scene())


def test_a_follower_of_a_task_is_not_woken_by_others_nor_told_that_it_missed_them() -> None:
    async def scene() -> None:
        made = history(most_entries=2)
        follower = Follower(made, 0, "a")
        coming = asyncio.create_task(follower.news(LONG_SECONDS))
        while not made.waiting:
            await asyncio.sleep(0)
        for seq in range(1, 50):
            made.append(entry(seq, "b"))
        assert made.waiting == 1
        made.append(entry(50, "a"))
        made.append(entry(51, "b"))
        assert seqs(await coming) == [50]

    run(scene())


def test_a_follower_that_is_too_slow_is_told_so_once_and_goes_on() -> None:
    async def scene() -> None:
        made = history(most_entries=2)
        follower = Follower(made, 0)
        for seq in range(1, 6):
            made.append(entry(seq))
        with pytest.raises(Missed):
            await follower.news(LONG_SECONDS)
        made.append(entry(6))
        assert seqs(await follower.news(LONG_SECONDS)) == [6]

    run(scene())


def test_without_news_a_follower_comes_back_for_its_heartbeat() -> None:
    async def scene() -> None:
        made = history()
        assert await Follower(made, 0).news(0.001) == []
        assert made.waiting == 0

    run(scene())


def test_at_the_end_followers_hear_the_rest_and_wait_no_more() -> None:
    async def scene() -> None:
        made = history()
        coming = asyncio.create_task(Follower(made, 0).news(LONG_SECONDS))
        while not made.waiting:
            await asyncio.sleep(0)
        made.end()
        assert await coming == []
        late = Follower(made, 0)
        assert await late.news(LONG_SECONDS) == [] and made.waiting == 0

    run(scene())


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3)), max_size=60),
    st.integers(1, 20),
)
def test_whoever_reads_now_and_then_misses_nothing_but_old_progress(
    events: list[tuple[str, bool, int]], most_entries: int
) -> None:
    """One follows all, the others a task each; whoever reads has all since it read last, or is told otherwise."""

    async def scene() -> None:
        made = history(most_entries=most_entries)
        followers = [Follower(made, 0), *(Follower(made, 0, task_id) for task_id in "abc")]
        heard: list[list[int]] = [[], [], [], []]
        since = [0, 0, 0, 0]
        told: list[Entry] = []
        for seq, (task_id, progress, reader) in enumerate(events, 1):
            told.append(entry(seq, task_id, progress=progress))
            made.append(told[-1])
            who = followers[reader]
            try:
                got = seqs(await who.news(0.0))
            except Missed:
                since[reader] = seq
                continue
            wanted = [e for e in told if e.seq > since[reader] and who.task_id in (None, e.task_id)]
            assert set(got) <= {e.seq for e in wanted} and got == sorted(got)
            assert {e.seq for e in wanted if not e.is_progress} <= set(got)
            assert not set(got) & set(heard[reader])
            heard[reader] += got
            since[reader] = seq

    asyncio.run(scene())


def test_progress_is_heard_a_little_later_and_with_whatever_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        made = history()
        monkeypatch.setattr("demucs_server_worker.server.history.PROGRESS_SECONDS", LONG_SECONDS * 2)
        coming = asyncio.create_task(Follower(made, 0).news(LONG_SECONDS))
        while not made.waiting:
            await asyncio.sleep(0)
        for seq in (1, 2, 3):
            made.append(entry(seq, "a", progress=True))
            await asyncio.sleep(0)
        assert not coming.done()
        made.append(entry(4, "b"))
        assert seqs(await coming) == [3, 4]
        monkeypatch.setattr("demucs_server_worker.server.history.PROGRESS_SECONDS", 0.001)
        coming = asyncio.create_task(Follower(made, 4, "a").news(LONG_SECONDS))
        while not made.waiting:
            await asyncio.sleep(0)
        made.append(entry(5, "a", progress=True))
        assert seqs(await coming) == [5]

    run(scene())
