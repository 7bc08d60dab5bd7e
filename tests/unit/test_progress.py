"""One figure that never falls."""

from __future__ import annotations

from itertools import pairwise

from demucs_server_worker.separation.job import SeparationProgress
from demucs_server_worker.separation.progress import DECODING_SHARE, ENCODING_SHARE, ProgressMeter


def metered() -> tuple[ProgressMeter, list[SeparationProgress]]:
    told: list[SeparationProgress] = []
    return ProgressMeter(told.append), told


def test_a_song_from_end_to_end() -> None:
    meter, told = metered()
    meter.expect(10.0)
    meter.decoded(5.0)
    meter.know(10.0)
    meter.separated(0, 4)
    meter.separated(3, 4)
    meter.encoding(0.0)
    meter.encoding(1.0)
    model = 1 - DECODING_SHARE - ENCODING_SHARE
    assert [each.fraction for each in told] == [
        DECODING_SHARE / 2,
        DECODING_SHARE,
        DECODING_SHARE,
        DECODING_SHARE + model * 0.75,
        1 - ENCODING_SHARE,
        1.0,
    ]
    assert [each.stage for each in told] == ["decoding"] * 2 + ["separating"] * 2 + ["encoding"] * 2
    assert [each.duration_seconds for each in told] == [None] + [10.0] * 5
    assert [each.computing for each in told] == [False] * 2 + [True] * 4


def test_a_song_longer_than_it_claims_stays_within_the_share() -> None:
    meter, told = metered()
    meter.expect(10.0)
    meter.decoded(25.0)
    assert told[-1].fraction == DECODING_SHARE


def test_a_song_of_unknown_length_moves_and_stays_within_the_share() -> None:
    meter, told = metered()
    meter.expect(None)
    for seconds in (1.0, 60.0, 3600.0, 36_000.0):
        meter.decoded(seconds)
    figures = [each.fraction for each in told]
    assert all(0 < before < after < DECODING_SHARE for before, after in pairwise(figures))


def test_it_never_falls() -> None:
    meter, told = metered()
    meter.separated(3, 4)
    meter.separated(1, 4)
    assert told[1].fraction == told[0].fraction
