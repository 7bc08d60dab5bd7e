"""The measure of separation against values worked out by hand."""

import math

import numpy as np
import pytest

from demucs_server_worker.demo.sdr import sdr


def test_an_error_of_a_tenth_of_the_amplitude_is_20_db() -> None:
    reference = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
    assert sdr(reference, 0.9 * reference) == pytest.approx(20.0)


def test_all_channels_and_samples_count_together() -> None:
    reference = np.array([[3.0, 0.0], [0.0, 1.0]])
    estimate = np.array([[3.0, 1.0], [0.0, 1.0]])
    assert sdr(reference, estimate) == pytest.approx(10.0)  # 10 against 1; a mean over channels would be infinite


def test_a_gain_is_an_error() -> None:
    reference = np.random.default_rng(0).normal(size=(2, 1000))
    assert sdr(reference, 2.0 * reference) == pytest.approx(0.0)


def test_long_float32_signals_are_summed_in_double_precision() -> None:
    reference = np.full((2, 1_000_000), 1000.0, dtype=np.float32)
    estimate = reference + np.float32(1.0)
    assert sdr(reference, estimate) == pytest.approx(60.0, abs=1e-9)


def test_a_silent_estimate_is_0_db() -> None:
    assert sdr([1.0, 2.0], [0.0, 0.0]) == 0.0


def test_an_exact_estimate_is_infinite() -> None:
    assert sdr([1.0, 2.0], [1.0, 2.0]) == math.inf


@pytest.mark.parametrize("estimate", [[0.0, 0.0], [0.1, 0.0]])
def test_a_silent_reference_has_no_sdr(estimate: list[float]) -> None:
    assert math.isnan(sdr([0.0, 0.0], estimate))


def test_shapes_that_differ_are_refused_rather_than_broadcast() -> None:
    with pytest.raises(ValueError, match="shape"):
        sdr(np.ones((2, 10)), np.ones(10))
