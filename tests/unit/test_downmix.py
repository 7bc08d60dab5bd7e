"""Any channels become two, by the coefficients of ITU-R BS.775."""

from __future__ import annotations

import numpy as np
import pytest

from demucs_server_worker.separation.downmix import MAX_CHANNELS, downmix_matrix, to_stereo

K = 2**-0.5


def weights(*names: str) -> dict[str, tuple[float, float]]:
    matrix = downmix_matrix(names)
    assert matrix is not None
    return {
        name: (round(float(left), 6), round(float(right), 6))
        for name, (left, right) in zip(names, matrix.T, strict=True)
    }


def test_five_point_one() -> None:
    k = round(K, 6)
    assert weights("FL", "FR", "FC", "LFE", "BL", "BR") == {
        "FL": (1, 0), "FR": (0, 1), "FC": (k, k), "LFE": (0, 0), "BL": (k, 0), "BR": (0, k)
    }  # fmt: skip


def test_the_order_of_the_channels_does_not_matter() -> None:
    assert weights("FC", "FL", "SR", "FR", "SL") == weights("FL", "FR", "FC", "SL", "SR")


def test_a_rear_centre_reaches_both_sides_at_minus_six_db() -> None:
    assert weights("FL", "FR", "FC", "BC")["BC"] == (0.5, 0.5)


@pytest.mark.parametrize("count", range(3, 9))
def test_unnamed_channels_are_taken_by_their_count(count: int) -> None:
    matrix = downmix_matrix(["NONE"] * count)
    assert matrix is not None
    assert matrix.shape == (2, count)
    assert matrix[:, :2].tolist() == [[1, 0], [0, 1]]


def test_every_layout_is_as_loud_on_the_left_as_on_the_right() -> None:
    for count in range(1, 9):
        matrix = downmix_matrix(["NONE"] * count)
        assert matrix is not None
        assert matrix[0].sum() == pytest.approx(matrix[1].sum())


@pytest.mark.parametrize("names", [[], ["NONE"] * 9, ["FL"] * (MAX_CHANNELS + 1), ["NONE"] * 64])
def test_no_channels_and_too_many_are_refused(names: list[str]) -> None:
    assert downmix_matrix(names) is None


def test_mono_stands_on_both_sides_at_full_level() -> None:
    mono = np.array([[0.25, -1.0]], np.float32)
    matrix = downmix_matrix(["FC"])
    assert matrix is not None
    assert to_stereo(mono, matrix).tolist() == [[0.25, -1.0], [0.25, -1.0]]


def test_stereo_keeps_its_exact_values() -> None:
    stereo = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    matrix = downmix_matrix(["FL", "FR"])
    assert matrix is not None
    np.testing.assert_array_equal(to_stereo(stereo, matrix), stereo)


def test_the_sum_is_not_scaled_down() -> None:
    matrix = downmix_matrix(["FL", "FR", "FC"])
    assert matrix is not None
    assert to_stereo(np.ones((3, 4), np.float32), matrix) == pytest.approx(1 + K)
