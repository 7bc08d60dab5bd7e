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
        self._drawn = next(self._segments, None)  # the one behind `upcoming`
        self._sum = OverlapAdd(len(sources), song.channels, cut.segment_length, cut.stride)
        self.upcoming = self._draw()
        self.count = cut.count

    def step(self, mix: SlidingMix) -> Tensor:
        """Run the upcoming segments; gives what is finished of the song, (stems, channels, samples)."""
        segments, self.upcoming = self.upcoming, self._draw()
        windows = torch.stack([mix.window(each.window_start, each.window_length) for each in segments])
        estimates = self._network(windows)  # (segments, sources, channels, window)
        finished = [self._finished(*both) for both in zip(segments, estimates, strict=True)]
        return finished[0] if len(finished) == 1 else torch.cat(finished, dim=-1)

    def _draw(self) -> list[Segment]:
        """The next segments: as many as the network likes at once, all with windows of one length."""
        together: list[Segment] = []
        while (segment := self._drawn) is not None and len(together) < self._network.backend.batch:
            if together and segment.window_length != together[0].window_length:
                break
            together.append(segment)
            self._drawn = next(self._segments, None)
        return together

    def _finished(self, segment: Segment, estimate: Tensor) -> Tensor:
        if self._sources != list(range(len(estimate))):
            estimate = estimate[self._sources]  # (stems, channels, window)
        estimate = estimate[..., segment.trim : segment.trim + segment.length]  # (stems, channels, length)
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
            on_segment: called before each forward pass with the number of segments done; may raise to stop.

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
            last = current.upcoming[-1]
            count = len(current.upcoming)
            _fill(mix, blocks, last.window_start + last.window_length, name)
            on_segment(done)
            finished = current.step(mix)
            done += count
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
        open_passes = [(each.upcoming[0].start, i) for i, each in enumerate(self._passes) if each.upcoming]
        return min(open_passes)[1] if open_passes else None

    def _forget(self, mix: SlidingMix) -> None:
        waiting = [each.upcoming[0] for each in self._passes if each.upcoming]
        if waiting:
            # A short last segment is shown up to half a window of context more than those before it.
            mix.forget(min(each.window_start for each in waiting) - max(each.window_length for each in waiting))


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
