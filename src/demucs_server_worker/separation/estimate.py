"""The song through the model: segments out of the sliding mix, passes, overlap-add, blend. Bounded in memory.

One function or class a level, as in the field: bag → shifts → segments. All passes (members × shifts) go through
the song together, so that it is decoded once and nothing waits on disk or in memory for another pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from demucs_server_worker.errors import InputUnreadable, InvalidOutput
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.fifo import Block
from demucs_server_worker.separation.network import Network
from demucs_server_worker.separation.overlap_add import Blend, OverlapAdd
from demucs_server_worker.separation.segments import Plan, Segment, leads, plan, unsplit
from demucs_server_worker.separation.sliding import SlidingMix


@dataclass(frozen=True)
class SongStats:
    """What the first pass over a song finds, at the model's rate: what Demucs normalises by.

    Attributes:
        length: samples.
        mean, std: of the mono mix; `std` already has Demucs' 1e-8 added.
        channels: of the mix.
    """

    length: int
    mean: float
    std: float
    channels: int = 2


@dataclass(frozen=True)
class Member:
    """A member of a bag.

    Attributes:
        place: in the bag.
        network: the model.
        share: (stems,): its weight for each needed source, already divided by the bag's total.
    """

    place: int
    network: Network
    share: Tensor


class _Pass:
    """One member with one shift on its way through the song."""

    def __init__(
        self, member: Member, cut: Plan, sources: list[int], song: SongStats, valid: Callable[[int], int]
    ) -> None:
        self._network = member.network
        self._sources = sources
        self._segments = cut.segments(valid)
        self._sum = OverlapAdd(len(sources), song.channels, cut.segment_length, cut.stride)
        self.next: Segment | None = next(self._segments, None)
        self.count = cut.count

    def step(self, mix: SlidingMix) -> Tensor:
        """Run the next segment; gives what is finished of the song, (stems, channels, samples)."""
        segment = self.next
        assert segment is not None  # noqa: S101 (the caller steps only passes that have a next segment)
        window = mix.window(segment.window_start, segment.window_length)  # (channels, window)
        estimate = self._network(window)
        if self._sources != list(range(len(estimate))):
            estimate = estimate[self._sources]  # (stems, channels, window)
        estimate = estimate[..., segment.trim : segment.trim + segment.length]  # (stems, channels, length)
        self.next = next(self._segments, None)
        finished = self._sum.add(estimate, is_last=segment.is_last)
        before_song = max(0, -segment.start)
        return finished[..., min(before_song, finished.shape[-1]) :]


class Estimator:
    """The estimates of the needed sources over one song, block by block."""

    def __init__(
        self, members: Sequence[Member], bag_size: int, sources: Sequence[int], options: SeparationOptions,
        sample_rate: int, song: SongStats, seed: int,
    ) -> None:  # fmt: skip
        """Prepare the passes.

        Args:
            members: those of the bag that have a part in any of `sources`.
            bag_size: members of the whole bag: each has its shifts, whether it runs or not, so that a stem
                asked for alone is the same as among others.
            sources: places of the needed sources in the models' output.
            options: overlap, segment, shifts, split.
            sample_rate: of the models, Hz.
            song: what the first pass found.
            seed: of the shifts.
        """
        self._song = song
        self._passes: list[_Pass] = []
        coefficients: list[Tensor] = []
        places = list(sources)
        all_leads = leads(bag_size, options.shifts, sample_rate, seed)
        for member in members:
            for lead in all_leads[member.place]:
                self._passes.append(_start(member, lead, places, options, sample_rate, song))
                coefficients.append(member.share / len(all_leads[member.place]))
        self._blend = Blend(coefficients)
        self.total_segments = sum(each.count for each in self._passes)

    def run(self, blocks: Iterator[Block], name: str, on_segment: Callable[[int], None]) -> Iterator[Block]:
        """Go through the song.

        Args:
            blocks: the song at the model's rate, (channels, samples) each.
            name: of the song, for errors.
            on_segment: called before each forward pass with the number done; may raise to stop.

        Yields:
            (stems, channels, samples): the estimates, one block following the other, `song.length` samples in all.

        Raises:
            InvalidOutput: when the model gives NaN or infinity.
            InputUnreadable: when `blocks` ends before the song's length: the file changed between the two passes.
        """
        mix = SlidingMix(self._song.length, self._song.mean, self._song.std, self._song.channels)
        done = 0
        while (index := self._most_behind()) is not None:
            current = self._passes[index]
            segment = current.next
            assert segment is not None  # noqa: S101 (by _most_behind)
            _fill(mix, blocks, segment.window_start + segment.window_length, name)
            on_segment(done)
            finished = current.step(mix)
            done += 1
            # NaN and infinity come out of it, and it takes no memory, as `isfinite` of each sample would.
            if finished.numel() and not all(torch.isfinite(end) for end in torch.aminmax(finished)):
                raise InvalidOutput(name=name)
            self._forget(mix)
            if (block := self._blend.push(index, finished.numpy())) is not None:
                block *= np.float32(self._song.std)
                block += np.float32(self._song.mean)
                yield block

    def _most_behind(self) -> int | None:
        """The pass whose next segment starts first; the others wait for it, so that little is held."""
        open_passes = [(each.next.start, i) for i, each in enumerate(self._passes) if each.next is not None]
        return min(open_passes)[1] if open_passes else None

    def _forget(self, mix: SlidingMix) -> None:
        starts = [each.next.window_start for each in self._passes if each.next is not None]
        if starts:
            # A short last segment is shown up to half a window of context more than those before it.
            longest = max(each.next.window_length for each in self._passes if each.next is not None)
            mix.forget(min(starts) - longest)


def _start(
    member: Member, lead: int, sources: list[int], options: SeparationOptions, sample_rate: int, song: SongStats
) -> _Pass:
    network = member.network
    seconds = options.segment
    if options.split:
        cut = plan(song.length, network.segment_length(seconds, sample_rate), options.overlap, lead=lead)
    else:
        cut = unsplit(song.length, lead=lead)
    return _Pass(
        member, cut, sources, song, lambda length: network.valid_length(length, seconds, sample_rate)
    )  # fmt: skip


def _fill(mix: SlidingMix, blocks: Iterator[Block], end: int, name: str) -> None:
    while not mix.has(end):
        block = next(blocks, None)
        if block is None:
            raise InputUnreadable(name=name, detail="it became shorter while it was read")
        mix.push(block)
