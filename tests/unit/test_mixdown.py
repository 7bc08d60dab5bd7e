"""Estimates and mix meet sample by sample, whatever the rates and the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.mixdown import SILENCE_DB, Mixdown
from demucs_server_worker.separation.resample import Resampler
from demucs_server_worker.separation.stem_plan import stem_plan
from tests.audio_files import tones
from tests.separations import SOURCES, ratio_db

SHARES = np.array([0.4, 0.3, 0.2, 0.1], np.float32)[:, None, None]


class Collector:
    """Takes the stems instead of files."""

    def __init__(self, limit: float | None = None) -> None:
        self.blocks: list[np.ndarray] = []
        self._limit = limit

    def limited(self, stems: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [stem if self._limit is None else np.clip(stem, -self._limit, self._limit) for stem in stems]

    def write(self, stems: Sequence[np.ndarray]) -> None:
        self.blocks.append(np.stack(stems))

    @property
    def stems(self) -> np.ndarray:
        return np.concatenate(self.blocks, axis=-1)


def resampled(signal: np.ndarray, source: int, target: int) -> np.ndarray:
    resampler = Resampler(source, target)
    return np.concatenate([resampler.push(signal), resampler.finish()], axis=1)


def mixed(
    mix: np.ndarray, source: int, model: int, output: int, shares: np.ndarray = SHARES, limit: float | None = None,
    **options: Any,
) -> tuple[np.ndarray, float | None]:  # fmt: skip
    """The stems and the residual, when each estimate is a share of the mix, and the mix runs ahead of the model."""
    plan = stem_plan(SOURCES, SeparationOptions(**options))
    collector = Collector(limit)
    mixdown = Mixdown(
        plan, collector, source_rate=source, model_rate=model, output_rate=output, source_length=mix.shape[1],  # type: ignore[arg-type]
    )  # fmt: skip
    estimates = (resampled(mix, source, model)[None] * shares)[list(plan.sources)]
    mixdown.push_mix(mix[:, : mix.shape[1] // 3])
    for start in range(0, estimates.shape[2], 7_001):
        mixdown.push_estimates(estimates[..., start : start + 7_001])
        if start == 0:
            mixdown.push_mix(mix[:, mix.shape[1] // 3 :])
    mixdown.finish()
    assert mixdown.output_length == collector.stems.shape[-1]
    return collector.stems, mixdown.residual_db


@pytest.mark.parametrize("length", [1, 7, 400, 20_001])
@pytest.mark.parametrize("source", [8_000, 44_100, 48_000, 96_000, 192_000])
def test_stems_have_the_length_of_the_song(source: int, length: int) -> None:
    mix = tones(max(length, 10), source)
    stems, _ = mixed(mix, source, 44_100, source)
    assert stems.shape == (4, 2, mix.shape[1])


@pytest.mark.parametrize("source", [8_000, 44_100, 48_000, 96_000])
def test_what_went_through_two_rates_still_lies_on_the_mix(source: int) -> None:
    mix = tones(source, source)
    stems, residual_db = mixed(mix, source, 44_100, source)
    inner = slice(200, -200)  # the filters ring at the hard ends of this signal
    assert ratio_db(mix[:, inner], (mix - stems.sum(0))[:, inner]) > 90
    assert ratio_db(SHARES[0] * mix[:, inner], (SHARES[0] * mix - stems[0])[:, inner]) > 90
    assert residual_db is not None and residual_db < -35


def test_an_output_of_another_rate_follows_the_mix_there() -> None:
    mix = tones(48_000, 48_000)
    stems, residual_db = mixed(mix, 48_000, 44_100, 22_050, residual="other")
    expected = resampled(mix, 48_000, 22_050)
    assert ratio_db(expected, expected - stems.sum(0)) > 120
    assert residual_db is not None and residual_db < -120


def test_the_residual_goes_to_other() -> None:
    mix = tones(30_000, 44_100)
    half = SHARES / 2
    stems, residual_db = mixed(mix, 44_100, 44_100, 44_100, shares=half, residual="other")
    np.testing.assert_allclose(stems[0], half[0] * mix, atol=1e-6)
    np.testing.assert_allclose(stems[2], half[2] * mix + mix / 2, atol=1e-6)
    assert residual_db is not None and residual_db < -120


def test_the_residual_is_what_the_stems_miss() -> None:
    mix = tones(30_000, 44_100)
    _, residual_db = mixed(mix, 44_100, 44_100, 44_100, shares=SHARES * 0.9)
    assert residual_db == pytest.approx(-20.0, abs=0.01)


def test_the_residual_counts_what_was_cut_off() -> None:
    mix = tones(30_000, 44_100) * 2
    stems, residual_db = mixed(mix, 44_100, 44_100, 44_100, limit=0.3)
    assert residual_db == pytest.approx(-ratio_db(mix, mix - stems.sum(0)), abs=0.01)
    assert residual_db > -20


def test_a_stem_that_takes_no_part_leaves_no_residual_to_tell() -> None:
    _, residual_db = mixed(tones(9_000, 44_100), 44_100, 44_100, 44_100, stems=("bass", "drums"))
    assert residual_db is None


def test_two_stems_are_one_and_the_sum_of_the_others() -> None:
    mix = tones(30_000, 44_100)
    added, _ = mixed(mix, 44_100, 44_100, 44_100, shares=SHARES / 2, two_stems="vocals")
    taken, residual_db = mixed(mix, 44_100, 44_100, 44_100, shares=SHARES / 2, two_stems="vocals", other_method="minus")
    np.testing.assert_allclose(added, np.stack([0.05 * mix, 0.45 * mix]), atol=1e-6)
    np.testing.assert_allclose(taken, np.stack([0.05 * mix, 0.95 * mix]), atol=1e-6)
    assert residual_db is not None and residual_db < -120


def test_silence_has_no_residual() -> None:
    stems, residual_db = mixed(np.zeros((2, 9_000), np.float32), 44_100, 44_100, 44_100)
    assert not stems.any() and residual_db == SILENCE_DB
