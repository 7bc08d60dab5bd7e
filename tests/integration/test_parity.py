"""The estimates against Demucs' own: `demucs.api.Separator` on the same weights and the same song."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from demucs.api import Separator
from demucs.apply import BagOfModels
from torch import nn

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.backends.torch_backend import TorchBackend
from demucs_server_worker.separation.estimate import Estimator, Member, SongStats
from demucs_server_worker.separation.network import ComputeClock, Network
from demucs_server_worker.separation.scan import STD_FLOOR
from tests import model_repo

RATE = 44_100
PARITY_DB = 90.0


def song(seconds: float, seed: int = 1) -> np.ndarray:
    """Noise with a slow swell and an offset, (2, samples): nothing in it is symmetric or zero."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    swell = 0.2 + 0.1 * np.sin(np.linspace(0, 9, samples))
    return (rng.standard_normal((2, samples)) * swell + [[0.02], [-0.01]]).astype(np.float32)


def snr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    missed = np.square(reference.astype(np.float64) - estimate).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / max(missed, 1e-30)))


def ours(
    modules: Sequence[nn.Module],
    weights: Sequence[Sequence[float]],
    mix: np.ndarray,
    seed: int = 0,
    sources: Sequence[int] = (0, 1, 2, 3),
    block: int = 30_011,
    **options: object,
) -> tuple[np.ndarray, int]:
    """The estimates (stems, 2, samples) by our estimator, fed in blocks, and the number of forward passes."""
    clock = ComputeClock()
    mono = mix.mean(0)
    stats = SongStats(mix.shape[1], float(mono.mean()), float(mono.std(ddof=1)) + STD_FLOOR)
    table = torch.tensor(weights)
    shares = (table / table.sum(0))[:, list(sources)]
    members = [
        Member(i, Network(module, TorchBackend(module, torch.device("cpu"), torch.float32), clock), shares[i])
        for i, module in enumerate(modules)
        if any(weights[i][k] for k in sources)
    ]
    estimator = Estimator(members, len(modules), sources, SeparationOptions(**options), RATE, stats, seed)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, mix.shape[1], block):
            yield np.ascontiguousarray(mix[:, start : start + block])

    stems = np.concatenate(list(estimator.run(blocks(), "song", lambda done: None)), axis=-1)
    assert clock.passes == estimator.total_segments
    return stems, clock.passes


def theirs(model: nn.Module, mix: np.ndarray, seed: int = 0, **settings: object) -> np.ndarray:
    """The estimates (stems, 2, samples) by Demucs, its shifts drawn from a generator of their own.

    By itself it shares Python's global one with its transformer, which draws (and ignores) a number each pass.
    """
    separator = Separator.__new__(Separator)
    separator.__dict__.update(
        _model=model, _samplerate=RATE, _audio_channels=2, _device="cpu", _shifts=0, _overlap=0.25, _split=True,
        _segment=None, _jobs=0, _progress=False, _callback=None, _callback_arg=None,
    )  # fmt: skip
    separator.__dict__.update({f"_{name}": value for name, value in settings.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("demucs.apply.random", random.Random(seed))
        _, stems = separator.separate_tensor(torch.from_numpy(mix))
    return torch.stack(list(stems.values())).numpy()


ONES = [[1.0] * 4]
MODELS = {
    "htdemucs": model_repo.tiny_htdemucs,
    "hdemucs": model_repo.tiny_hdemucs,
    "demucs": model_repo.tiny_demucs,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seconds", [0.05, 4.4])
def test_stems_equal_those_of_demucs(name: str, seconds: float) -> None:
    model, mix = MODELS[name](), song(seconds)
    stems, _ = ours([model], ONES, mix)
    assert stems.shape == (4, *mix.shape)
    assert snr_db(theirs(model, mix), stems) >= PARITY_DB


@pytest.mark.parametrize("name", MODELS)
def test_overlap_and_segment_mean_what_they_mean_in_demucs(name: str) -> None:
    model, mix = MODELS[name](), song(3.1)
    stems, _ = ours([model], ONES, mix, overlap=0.6, segment=1.5)
    assert snr_db(theirs(model, mix, overlap=0.6, segment=1.5), stems) >= PARITY_DB


@pytest.mark.parametrize("name", ["hdemucs", "demucs"])
def test_a_song_in_one_piece_equals_no_split_of_demucs(name: str) -> None:
    model, mix = MODELS[name](), song(2.3)
    stems, passes = ours([model], ONES, mix, split=False)
    assert passes == 1
    assert snr_db(theirs(model, mix, split=False), stems) >= PARITY_DB


def test_a_transformer_refuses_a_long_song_in_one_piece() -> None:
    with pytest.raises(InvalidOption, match="transformer"):
        ours([model_repo.tiny_htdemucs()], ONES, song(5.1), split=False)


@pytest.mark.parametrize("name", MODELS)
def test_shifts_drawn_alike_give_the_stems_of_demucs(name: str) -> None:
    model, mix = MODELS[name](), song(1.8)
    expected = theirs(model, mix, seed=7, shifts=2)
    stems, _ = ours([model], ONES, mix, seed=7, shifts=2)
    assert snr_db(expected, stems) >= PARITY_DB


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    model, mix = model_repo.tiny_htdemucs(), song(1.2)
    first, again, other = (ours([model], ONES, mix, seed=seed, shifts=2)[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_a_weighted_bag_of_different_families_equals_that_of_demucs() -> None:
    modules = [model_repo.tiny_hdemucs(1), model_repo.tiny_demucs(2), model_repo.tiny_htdemucs(3)]
    weights = [[1.0, 0.5, 0.0, 2.0], [0.0, 1.0, 1.0, 1.0], [3.0, 0.0, 1.0, 0.25]]
    mix = song(4.4)
    expected = theirs(BagOfModels(modules, weights), mix, seed=3, shifts=1)
    stems, _ = ours(modules, weights, mix, seed=3, shifts=1)
    assert snr_db(expected, stems) >= PARITY_DB


def test_one_stem_of_a_fine_tuned_bag_runs_one_member_and_is_the_same() -> None:
    modules = [model_repo.tiny_htdemucs(seed) for seed in range(4)]
    weights, mix = model_repo.FINE_TUNED_WEIGHTS, song(1.6)
    whole, passes_of_whole = ours(modules, weights, mix, seed=5, shifts=1)
    vocals, passes = ours(modules, weights, mix, seed=5, shifts=1, sources=(3,))
    assert passes * 4 == pytest.approx(passes_of_whole, abs=4)
    assert snr_db(whole[3], vocals[0]) >= 120


def test_how_the_song_is_cut_into_blocks_does_not_show() -> None:
    model, mix = model_repo.tiny_demucs(), song(4.4)
    coarse, fine = (ours([model], ONES, mix, block=block)[0] for block in (1 << 20, 4_801))
    assert coarse.tobytes() == fine.tobytes()


@pytest.mark.parametrize(("seconds", "segments"), [(3.1, 1), pytest.param(6.1, 2, marks=pytest.mark.slow)])
def test_the_published_htdemucs_architecture_equals_demucs(seconds: float, segments: int) -> None:
    model, mix = model_repo.htdemucs(), song(seconds)
    assert sum(p.numel() for p in model.parameters()) == model_repo.HTDEMUCS_PARAMETERS
    stems, passes = ours([model], ONES, mix)
    assert passes == segments
    assert snr_db(theirs(model, mix), stems) >= PARITY_DB


def test_the_comparison_can_fail() -> None:
    """A different overlap is a different signal: the bound above is no formality."""
    model, mix = model_repo.tiny_htdemucs(), song(2.6)
    stems, _ = ours([model], ONES, mix, overlap=0.5)
    assert snr_db(theirs(model, mix), stems) < PARITY_DB
