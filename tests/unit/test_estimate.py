"""A model that gives back what it is shown must give back the song, however the song is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demucs_server_worker.errors import InputUnreadable
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.backends.torch_backend import TorchBackend
from demucs_server_worker.separation.estimate import Estimator, Member, SongStats
from demucs_server_worker.separation.network import Network
from demucs_server_worker.separation.sliding import SlidingMix
from tests.separations import Shares

RATE = 100  # Hz: seconds are 100 samples, so that songs of many segments stay small


class Padded(Shares):
    """Wants to be shown a fixed length, as hybrid transformers do."""

    def valid_length(self, length: int) -> int:
        return max(length, int(self.segment * RATE))


def estimator(length: int, models: list[Shares], seed: int = 0, batch: int = 1, **options: Any) -> Estimator:
    cpu = torch.device("cpu")
    backends = [TorchBackend(model, cpu, torch.float32, batch) for model in models]
    members = [
        Member(place, Network(model, backend), torch.full((4,), 1 / len(models)))
        for place, (model, backend) in enumerate(zip(models, backends, strict=True))
    ]
    chosen = SeparationOptions(**options)
    return Estimator(members, len(models), (0, 1, 2, 3), chosen, RATE, SongStats(length, 0.1, 2.0), seed)


def blocks_of(song: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, song.shape[1], size):
        yield np.ascontiguousarray(song[:, start : start + size])


def noise(length: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(1, 700),
    segments=st.lists(st.floats(0.3, 3.0), min_size=1, max_size=3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.97]),
    shifts=st.integers(0, 2),
    block=st.integers(1, 500),
    split=st.booleans(),
    seed=st.integers(0, 9),
    batch=st.integers(1, 4),
)
def test_the_song_comes_back(
    length: int, segments: list[float], overlap: float, shifts: int, block: int, split: bool, seed: int, batch: int
) -> None:
    models: list[Shares] = [(Padded, Shares)[i % 2]((1, 1, 1, 1), segment=each) for i, each in enumerate(segments)]
    song, told = noise(length), []
    run = estimator(length, models, seed, batch, overlap=overlap, shifts=shifts, split=split)
    pieces = list(run.run(blocks_of(song, block), "song", told.append))
    stems = np.concatenate(pieces, axis=-1)
    assert stems.shape == (4, 2, length)
    np.testing.assert_allclose(stems, np.broadcast_to(song, stems.shape), atol=2e-5)
    assert told[0] == 0 and told == sorted(set(told)) and told[-1] < run.total_segments
    assert batch > 1 or told == list(range(run.total_segments))
    assert sum(model.passes for model in models) == len(told)


@pytest.mark.parametrize("options", [{}, {"overlap": 0.99}, {"shifts": 2}])
def test_what_is_held_of_the_song_is_a_few_windows(monkeypatch: pytest.MonkeyPatch, options: dict[str, object]) -> None:
    held: list[int] = []
    window = SlidingMix.window
    monkeypatch.setattr(SlidingMix, "window", lambda self, *where: (held.append(self.held), window(self, *where))[1])
    run = estimator(3_000, [Padded(segment=2.0), Shares(segment=1.0)], **options)
    for _ in run.run(blocks_of(noise(3_000), 100), "song", lambda done: None):
        pass
    assert (
        max(held) <= 5 * 200 + 100
    )  # twice what is needed at most: a window, as much before it, half a shift, a block


def test_a_song_that_ends_early_is_noticed() -> None:
    run = estimator(1_000, [Shares(segment=1.0)])
    with pytest.raises(InputUnreadable, match="shorter"):
        list(run.run(blocks_of(noise(900), 100), "song", lambda done: None))
