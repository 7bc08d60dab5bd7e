"""Where songs are cut: the arithmetic of segments, windows and shifts."""

from __future__ import annotations

import random

import pytest
import torch
from demucs.apply import TensorChunk
from hypothesis import given, settings
from hypothesis import strategies as st

from demucs_server_worker.separation.segments import Segment, leads, plan, unsplit


def same(length: int) -> int:
    return length


def test_segments_start_a_stride_apart_and_the_last_is_what_is_left() -> None:
    cut = plan(100, 40, 0.25)
    assert (cut.stride, cut.count) == (30, 4)
    assert [(each.start, each.length, each.is_last) for each in cut.segments(same)] == [
        (0, 40, False),
        (30, 40, False),
        (60, 40, False),
        (90, 10, True),
    ]


def test_a_short_segment_is_shown_with_half_of_the_context_before_it() -> None:
    *_, last = plan(100, 40, 0.25).segments(lambda length: 40)
    assert last == Segment(start=90, length=10, window_start=75, window_length=40, is_last=True)
    assert last.trim == 15


def test_with_an_odd_surplus_the_smaller_half_comes_before() -> None:
    (only,) = plan(7, 40, 0).segments(lambda length: 12)
    assert (only.window_start, only.trim) == (-2, 2)


def test_a_song_that_ends_with_a_segment_gets_no_empty_one_behind_it() -> None:
    assert [each.start for each in plan(80, 40, 0).segments(same)] == [0, 40]


@pytest.mark.parametrize(("overlap", "stride"), [(0, 44_100), (0.25, 33_075), (0.99, 441)])
def test_the_stride_follows_from_the_overlap(overlap: float, stride: int) -> None:
    assert plan(1, 44_100, overlap).stride == stride


def test_the_stride_is_never_nothing() -> None:
    assert plan(5, 3, 0.99).stride == 1


def test_a_shifted_song_begins_before_itself() -> None:
    segments = list(plan(100, 40, 0.25, lead=35).segments(same))
    assert [each.start for each in segments] == [-35, -5, 25, 55, 85]
    assert segments[-1].length == 15


def test_unsplit_is_one_segment_with_the_silence_before_it() -> None:
    (only,) = unsplit(100, lead=7).segments(lambda length: length + 4)
    assert only == Segment(start=-7, length=107, window_start=-9, window_length=111, is_last=True)


@settings(deadline=None)
@given(
    length=st.integers(1, 300),
    segment=st.integers(1, 50),
    overlap=st.floats(0, 0.99),
    lead=st.integers(0, 60),
    extra=st.integers(0, 30),
)
def test_every_window_is_the_one_that_demucs_shows(
    length: int, segment: int, overlap: float, lead: int, extra: int
) -> None:
    """Compared with Demucs' own chunks, whose numbers are their positions + 1, and 0 outside the song."""
    song = torch.cat([torch.zeros(lead), torch.arange(1.0, length + 1)])[None, None]
    cut = plan(length, segment, overlap, lead=lead)
    segments = list(cut.segments(lambda wanted: wanted + extra))
    assert len(segments) == cut.count
    assert [each.is_last for each in segments] == [False] * (cut.count - 1) + [True]
    for number, each in enumerate(segments):
        chunk = TensorChunk(song, number * cut.stride, segment)
        shown = chunk.padded(chunk.length + extra)[0, 0]  # type: ignore[no-untyped-call]
        positions = torch.arange(each.window_start, each.window_start + each.window_length)
        assert shown.tolist() == torch.where((positions >= 0) & (positions < length), positions + 1, 0).tolist()
        assert (each.length, each.trim) == (chunk.length, extra // 2)


def test_without_shifts_every_member_has_one_pass_as_it_is() -> None:
    assert leads(3, 0, 44_100, seed=1) == [[0], [0], [0]]


def test_shifts_are_drawn_as_demucs_draws_them() -> None:
    longest = 22_050
    drawn = random.Random(7)
    expected = [[longest - drawn.randint(0, longest) for _ in range(2)] for _ in range(3)]
    assert leads(3, 2, 44_100, seed=7) == expected
    assert leads(3, 2, 44_100, seed=8) != expected
