"""Segments back to one signal, and passes to one blend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demucs_server_worker.separation.overlap_add import Blend, OverlapAdd, triangle
from demucs_server_worker.separation.segments import plan


def test_the_triangle_is_that_of_demucs() -> None:
    assert triangle(6).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3])
    assert triangle(5).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    assert triangle(1).tolist() == [1]


@pytest.mark.parametrize("overlap", [0, 0.25, 0.6, 0.99])
@pytest.mark.parametrize("length", [1, 39, 40, 41, 333])
def test_the_sum_equals_the_one_over_the_whole_song(length: int, overlap: float) -> None:
    """Against the formula written over the whole song, as Demucs has it."""
    cut = plan(length, 40, overlap)
    segments = list(cut.segments(lambda wanted: wanted))
    estimates = [torch.randn(3, 2, each.length, generator=torch.manual_seed(each.start)) for each in segments]
    total, weights = torch.zeros(3, 2, length), torch.zeros(length)
    for each, estimate in zip(segments, estimates, strict=True):
        weight = triangle(40)[: each.length]
        total[..., each.start : each.start + each.length] += weight * estimate
        weights[each.start : each.start + each.length] += weight
    adding = OverlapAdd(3, 2, 40, cut.stride)
    pieces = [adding.add(estimate, is_last=each.is_last) for each, estimate in zip(segments, estimates, strict=True)]
    assert [piece.shape[-1] for piece in pieces[:-1]] == [cut.stride] * (len(pieces) - 1)
    torch.testing.assert_close(torch.cat(pieces, -1), total / weights, rtol=0, atol=1e-5)


def test_what_was_given_out_does_not_change_later() -> None:
    adding = OverlapAdd(1, 1, 4, 3)
    first = adding.add(torch.ones(1, 1, 4), is_last=False)
    before = first.clone()
    adding.add(torch.full((1, 1, 4), 9.0), is_last=True)
    assert torch.equal(first, before)


def test_a_blend_gives_what_all_passes_have_reached() -> None:
    blend = Blend([torch.tensor([0.25, 1.0]), torch.tensor([0.75, 0.0])])
    first = np.arange(20, dtype=np.float32).reshape(2, 1, 10)
    second = first + 100
    assert blend.push(0, first[..., :6]) is None
    early = blend.push(1, second[..., :2])
    nothing = blend.push(1, second[..., 2:2])
    late = blend.push(1, second[..., 2:])
    rest = blend.push(0, first[..., 6:])
    assert early is not None and nothing is None and late is not None and rest is not None
    assert [early.shape[-1], late.shape[-1], rest.shape[-1]] == [2, 4, 4]
    blended = np.concatenate([early, late, rest], axis=-1)
    np.testing.assert_allclose(blended[0], 0.25 * first[0] + 0.75 * second[0], rtol=1e-6)
    np.testing.assert_array_equal(blended[1], first[1])
