"""From the model's estimates to the stems that are written: recipes, the output's rate, the mix, and what is missed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from demucs_server_worker.separation.fifo import Block, SampleFifo
from demucs_server_worker.separation.resample import Resampler, resampled_length
from demucs_server_worker.separation.sinks import Sinks
from demucs_server_worker.separation.stem_plan import Recipe, StemPlan

SILENCE_DB = -300.0  # what a ratio is called when there is nothing to compare, or nothing at all is missed


class Mixdown:
    """Takes the mix at the source's rate and the estimates at the model's, and writes the stems at the output's.

    All signals run through rate conversions of their own and meet again sample by sample. What waits is bounded by
    how far the model is behind the decoder.
    """

    def __init__(
        self, plan: StemPlan, sinks: Sinks, *, source_rate: int, model_rate: int, output_rate: int, source_length: int
    ) -> None:
        """Args: plan: the stems; sinks: where they go; rates in Hz; source_length: samples of the song."""
        self._plan = plan
        self._sinks = sinks
        self._length = self.length_of(source_length, source_rate, output_rate)
        self._written = 0
        self._uses_mix = plan.needs_mix or plan.covers_mix
        self._mix_resampler = Resampler(source_rate, output_rate)
        self._mix = SampleFifo()
        self._resamplers = [Resampler(model_rate, output_rate) for _ in plan.recipes]
        self._stems = [SampleFifo() for _ in plan.recipes]
        self._mix_energy = 0.0
        self._missed_energy = 0.0

    @staticmethod
    def length_of(source_length: int, source_rate: int, output_rate: int) -> int:
        """Samples of a stem at `output_rate` Hz, for a song of `source_length` samples at `source_rate` Hz."""
        return resampled_length(source_length, source_rate, output_rate)

    @property
    def output_length(self) -> int:
        """Samples of each stem."""
        return self._length

    def push_mix(self, block: Block) -> None:
        """Take the next samples of the song, (2, samples) at the source's rate."""
        if self._uses_mix:
            self._mix.push(self._mix_resampler.push(block))

    def push_estimates(self, estimates: Block) -> None:
        """Take the next estimates, (sources, 2, samples) at the model's rate, and write what is complete."""
        for recipe, resampler, fifo in zip(self._plan.recipes, self._resamplers, self._stems, strict=True):
            fifo.push(resampler.push(_combine(recipe, estimates)))
        self._write_ready()

    def finish(self) -> None:
        """Write the rest, so that every stem has exactly `output_length` samples."""
        for resampler, fifo in zip(self._resamplers, self._stems, strict=True):
            fifo.push(resampler.finish())
        if self._uses_mix:
            self._mix.push(self._mix_resampler.finish())
        self._write_ready()
        if (missing := self._length - self._written) > 0:  # the length was rounded on the way to the model's rate
            for fifo in [*self._stems, self._mix]:
                fifo.push(np.zeros((2, max(0, missing - fifo.length)), np.float32))
            self._write_ready()

    @property
    def residual_db(self) -> float | None:
        """Energy of mix minus the sum of all stems against the mix, dB; None when the stems need not add up to it.

        Of the stems as they are limited, but before a common gain (which changes mix and sum alike), rounding to the
        file's bits, and lossy coding.
        """
        if not self._plan.covers_mix:
            return None
        if self._mix_energy <= 0 or self._missed_energy <= 0:
            return SILENCE_DB
        return max(SILENCE_DB, 10 * math.log10(self._missed_energy / self._mix_energy))

    def _write_ready(self) -> None:
        fifos = [*self._stems, self._mix] if self._uses_mix else self._stems
        count = min(*(fifo.length for fifo in fifos), self._length - self._written)
        if count <= 0:
            return
        parts = [fifo.take(count) for fifo in self._stems]  # (2, count) each
        mix = self._mix.take(count) if self._uses_mix else None
        stems = self._sinks.limited(
            [
                part if mix is None else _with_mix(recipe, part, mix)
                for recipe, part in zip(self._plan.recipes, parts, strict=True)
            ]
        )
        if mix is not None and self._plan.covers_mix:
            self._measure(mix, stems)
        self._sinks.write(stems)
        self._written += count

    def _measure(self, mix: Block, stems: Sequence[Block]) -> None:
        missed = mix.copy()
        for stem in stems:
            missed -= stem
        self._mix_energy += _energy(mix)
        self._missed_energy += _energy(missed)


def _energy(block: Block) -> float:
    return float(np.square(block, dtype=np.float64).sum())


def _combine(recipe: Recipe, estimates: Block) -> Block:
    """The part of a stem that comes from the model: what is added, or what will be taken from the mix."""
    places = list(recipe.plus if recipe.minus is None else recipe.minus)
    if len(places) == 1:
        return np.ascontiguousarray(estimates[places[0]])
    combined: Block = estimates[places].sum(axis=0, dtype=np.float32)  # (2, samples)
    return combined


def _with_mix(recipe: Recipe, part: Block, mix: Block) -> Block:
    return part if recipe.minus is None else mix - part
