"""Where a song is cut into segments, and what the model is shown of each. Pure arithmetic: no tensors, no audio.

The rules are those of Demucs' `apply_model` (demucs 4.1, `demucs/apply.py`): segments start every
`int((1 - overlap) * segment_length)` samples; one that is shorter than what the model wants is shown with context,
half of it before, the rest behind; outside the song there is silence; a shifted copy of the song begins with silence.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_SHIFT_SECONDS = 0.5  # of Demucs' shift trick


@dataclass(frozen=True)
class Segment:
    """One segment. Positions are samples of the song at the model's rate; those below 0 are silence before it.

    Attributes:
        start: first sample that the segment gives.
        length: samples that it gives.
        window_start: first sample that the model is shown.
        window_length: samples that the model is shown; the segment lies centred in it.
        is_last: whether the song ends with it.
    """

    start: int
    length: int
    window_start: int
    window_length: int
    is_last: bool

    @property
    def trim(self) -> int:
        """Samples to drop from the front of the model's output to reach `start`."""
        return (self.window_length - self.length) // 2


@dataclass(frozen=True)
class Plan:
    """How one pass over a song is cut.

    Attributes:
        song_length: samples of the song.
        segment_length: samples of a full segment.
        stride: samples from one segment's start to the next.
        lead: samples of silence before the song (a shift), at least 0.
    """

    song_length: int
    segment_length: int
    stride: int
    lead: int = 0

    @property
    def count(self) -> int:
        """Number of segments: forward passes of the model."""
        return -(-(self.song_length + self.lead) // self.stride)

    def segments(self, valid_length: Callable[[int], int]) -> Iterator[Segment]:
        """The segments in order.

        Args:
            valid_length: the number of samples that the model wants to be shown for a segment of the given length.
        """
        total = self.song_length + self.lead
        for offset in range(0, total, self.stride):
            length = min(self.segment_length, total - offset)
            window_length = valid_length(length)
            start = offset - self.lead
            yield Segment(
                start=start,
                length=length,
                window_start=start - (window_length - length) // 2,
                window_length=window_length,
                is_last=offset + self.stride >= total,
            )


def plan(song_length: int, segment_length: int, overlap: float, *, lead: int = 0) -> Plan:
    """The plan of one pass.

    Args:
        song_length: samples, at least 1.
        segment_length: samples, at least 1.
        overlap: part of a segment that overlaps the next, 0 ≤ overlap < 1.
        lead: samples of silence before the song.
    """
    stride = max(1, int((1 - overlap) * segment_length))
    return Plan(song_length=song_length, segment_length=segment_length, stride=stride, lead=lead)


def unsplit(song_length: int, *, lead: int = 0) -> Plan:
    """The plan of one pass that hands the model the whole song at once."""
    return Plan(song_length=song_length, segment_length=song_length + lead, stride=song_length + lead, lead=lead)


def leads(members: int, shifts: int, sample_rate: int, seed: int) -> list[list[int]]:
    """The silence before the song in each pass, member by member: one pass of none without shifts.

    The offsets are drawn as Demucs draws them, in the same order, from a generator seeded with `seed`.

    Args:
        members: models in the bag; each gets shifts of its own.
        shifts: random shifts a member; 0 means one pass as it is.
        sample_rate: Hz.
        seed: the same seed gives the same shifts.
    """
    if shifts == 0:
        return [[0] for _ in range(members)]
    generator = random.Random(seed)  # noqa: S311 (no secret: a repeat must give the same bytes)
    longest = int(MAX_SHIFT_SECONDS * sample_rate)
    return [[longest - generator.randint(0, longest) for _ in range(shifts)] for _ in range(members)]
