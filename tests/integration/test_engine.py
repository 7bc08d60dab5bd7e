"""Songs through the engine, from file to files: lengths, parity, repeats, members, progress, refusals."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from demucs.api import Separator
from demucs.apply import apply_model

from demucs_server_worker.demo.files import score_song, write_song
from demucs_server_worker.demo.sdr import sdr
from demucs_server_worker.demo.song import synthesise
from demucs_server_worker.errors import InvalidOption, ModelError, UnknownModel
from demucs_server_worker.separation import shelf
from demucs_server_worker.separation.engine import Engine
from demucs_server_worker.separation.models import load_model
from tests import model_repo
from tests.audio_files import tones, write_coded, write_pcm
from tests.separations import RATE, SOURCES, Shares, put_on_shelf, rate_of, ratio_db, read, separate

PARITY_DB = 90.0
FORMATS = ("wav", "flac", "mp3", "m4a", "ogg", "opus")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """One engine on the demo model and Demucs' names."""
    return Engine(device="cpu", threads=1)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shares]:
    """A model whose stems sum to the mix, under every name."""
    model = Shares()
    put_on_shelf(monkeypatch, model)
    yield model


@pytest.fixture
def cheap(shares: Shares) -> Engine:
    """An engine whose models cost nothing."""
    return Engine(device="cpu", threads=1)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # In the form that Demucs' own local repositories have.
    return model_repo.make_tiny_repo(tmp_path_factory.mktemp("models"), form="th")


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of the demo's music."""
    return write_song(tmp_path_factory.mktemp("songs"), "song", seed=901, seconds=4.0)[0]


def quiet(seconds: float, rate: int = RATE, channels: int = 2) -> np.ndarray:
    return 0.8 * tones(round(seconds * rate), rate, channels)


# --- length and rate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_stems_are_as_long_as_the_song_in_every_format(cheap: Engine, tmp_path: Path, format: str) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(1.5)[:, :60_007], RATE, "PCM_16")
    done = separate(cheap, path, tmp_path / "out", format=format)
    rate, length = (48_000, round(60_007 * 48_000 / RATE)) if format == "opus" else (RATE, 60_007)
    assert list(done.paths) == list(SOURCES)
    for stem in done.result.stems:
        assert read(done.folder / stem.path).shape == (2, length)
        assert rate_of(done.folder / stem.path) == stem.sample_rate == rate
        assert stem.duration_seconds == length / rate
        assert stem.bytes == (done.folder / stem.path).stat().st_size
    assert done.result.duration_seconds == 60_007 / RATE


@pytest.mark.parametrize(
    ("rate", "channels", "samples", "subtype"),
    [
        (44_100, 1, 30_001, "PCM_16"),
        (8_000, 2, 7_999, "PCM_16"),
        (48_000, 2, 50_003, "PCM_24"),
        (96_000, 2, 80_001, "PCM_24"),
        (192_000, 2, 99_999, "FLOAT"),
        (44_100, 6, 44_101, "PCM_16"),
        (44_100, 2, 2_205, "PCM_16"),
        (44_100, 2, 1, "PCM_16"),
        (44_100, 2, 44_100, "PCM_16"),
        (44_100, 2, 33_075, "PCM_16"),
        (44_100, 2, 33_076, "PCM_16"),
    ],
)
def test_stems_of_any_song_have_its_rate_and_length(
    cheap: Engine, tmp_path: Path, rate: int, channels: int, samples: int, subtype: str
) -> None:
    """Among the lengths: exactly a segment, exactly a stride, and one sample more."""
    path = write_pcm(tmp_path / "a.wav", quiet(1, rate, channels)[:, :1].repeat(samples, 1), rate, subtype)
    done = separate(cheap, path, tmp_path / "out", bit_depth="float32")
    assert {stem.sample_rate for stem in done.result.stems} == {rate}
    assert {stem.shape for stem in done.read().values()} == {(2, samples)}
    assert done.manifest["source"]["channels"] == channels


@pytest.mark.parametrize("length", [1, 2_205, 40_001, 132_300])
def test_the_demo_model_takes_songs_of_any_length(engine: Engine, tmp_path: Path, length: int) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(3)[:, :length], RATE, "PCM_16")
    done = separate(engine, path, tmp_path / "out")
    assert {stem.shape for stem in done.read().values()} == {(2, length)}


@pytest.mark.parametrize(("wanted", "rate", "length"), [("model", 44_100, 44_101), (22_050, 22_050, 22_050)])
def test_another_sample_rate_can_be_asked_for(
    cheap: Engine, tmp_path: Path, wanted: str | int, rate: int, length: int
) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(1.1, 48_000)[:, :48_001], 48_000, "PCM_16")
    done = separate(cheap, path, tmp_path / "out", sample_rate=wanted)
    assert {stem.sample_rate for stem in done.result.stems} == {rate} == {rate_of(p) for p in done.paths.values()}
    assert {stem.shape for stem in done.read().values()} == {(2, length)}


def test_a_rate_that_a_format_does_not_have_becomes_its_nearest(cheap: Engine, tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.flac", quiet(0.5, 96_000), 96_000, "PCM_24")
    done = separate(cheap, path, tmp_path / "out", format="mp3")
    assert {stem.sample_rate for stem in done.result.stems} == {48_000}
    assert {stem.shape for stem in done.read().values()} == {(2, 24_000)}


# --- parity, through files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny_htdemucs", "tiny_ft"])
def test_stems_in_files_are_those_of_demucs(repo: Path, tmp_path: Path, name: str) -> None:
    """Four seconds through the whole engine, against Demucs' own file to tensors."""
    path = write_pcm(tmp_path / "a.wav", tones(round(4.3 * RATE), RATE) + np.float32(0.01), RATE, "FLOAT")
    done = separate(
        Engine(device="cpu", threads=1, model_repo=repo), path, tmp_path / "out",
        model=name, bit_depth="float32", clip_mode="none",
    )  # fmt: skip
    _, expected = Separator(model=name, repo=repo, device="cpu", shifts=0).separate_audio_file(path)
    stems = done.read()
    assert list(stems) == list(expected)
    for stem, samples in expected.items():
        assert ratio_db(samples.numpy(), samples.numpy() - stems[stem]) >= PARITY_DB


def test_the_demo_model_separates_as_demucs_would_and_well(engine: Engine, tmp_path: Path) -> None:
    for seed in (9_001, 9_002):
        path, truth = write_song(tmp_path, f"song{seed}", seed, seconds=6.0)
        done = separate(engine, path, tmp_path / str(seed), bit_depth="float32", clip_mode="none")
        scores = score_song(truth, done.paths)
        mix = torch.from_numpy(read(path))
        mean, std = mix.mean(0).mean(), mix.mean(0).std() + 1e-8
        with torch.no_grad():
            out = apply_model(load_model("demo").network(0), ((mix - mean) / std)[None], shifts=0)[0] * std + mean
        for name, estimate in zip(SOURCES, out.numpy(), strict=True):
            expected = sdr(synthesise(seed, 6.0).stems[name], estimate)
            assert scores.stems[name] == pytest.approx(expected, abs=0.01)
            assert scores.stems[name] > scores.mix[name] + 3, f"{name} of {seed} is hardly separated"


# --- the same again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_task_gives_the_same_bytes(engine: Engine, tmp_path: Path, format: str) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(1.2), RATE, "PCM_16")
    first, again = (separate(engine, path, tmp_path / name, format=format, shifts=2) for name in ("first", "again"))
    assert first.bytes() == again.bytes()
    assert [stem.sha256 for stem in first.result.stems] == [stem.sha256 for stem in again.result.stems]
    assert (first.folder / first.result.files[-1]).read_bytes() == (again.folder / again.result.files[-1]).read_bytes()


def test_shifts_change_the_stems_and_belong_to_the_song(
    shares: Shares, cheap: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model is shown first begins with as much silence as the song was shifted by."""
    shown: list[torch.Tensor] = []
    leads: list[int] = []
    forward = Shares.forward
    monkeypatch.setattr(Shares, "forward", lambda self, mix: shown.append(mix) or forward(self, mix))
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        samples = tones(30_000, RATE, seed=seed) * 0.7 + np.float32(0.01)
        path = write_pcm(tmp_path / f"{name}.wav", samples, RATE, "PCM_16")
        shown.clear()
        separate(cheap, path, tmp_path / name, shifts=1)
        leads.append(leading_silence(shown[0]))
    assert leads[0] == leads[2] != leads[1]
    assert all(0 < lead < RATE // 2 for lead in leads)


def leading_silence(mix: torch.Tensor) -> int:
    return int((mix[0].abs().sum(0) != 0).nonzero()[0])


# --- members ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "members"),
    [
        ({}, [0, 1, 2, 3]),
        ({"stems": ("vocals",)}, [3]),
        ({"two_stems": "bass"}, [0, 1, 2, 3]),
        ({"two_stems": "bass", "other_method": "minus"}, [1]),
        ({"residual": "other"}, [0, 1, 3]),
    ],
)
def test_a_fine_tuned_bag_runs_the_members_that_are_needed(
    repo: Path, tmp_path: Path, options: dict[str, Any], members: list[int]
) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(1.4), RATE, "PCM_16")
    done = separate(
        Engine(device="cpu", threads=1, model_repo=repo), path, tmp_path / "out", model="tiny_ft", **options
    )
    assert done.manifest["model"]["members_run"] == members
    assert done.result.forward_passes == len(members)


def test_one_stem_alone_is_the_one_among_others(repo: Path, tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(2.2), RATE, "PCM_16")
    engine = Engine(device="cpu", threads=1, model_repo=repo)
    options = {"model": "tiny_ft", "shifts": 1, "clip_mode": "none", "bit_depth": "float32"}
    alone = separate(engine, path, tmp_path / "alone", stems=("vocals",), **options).read()
    among = separate(engine, path, tmp_path / "among", **options).read()
    assert list(alone) == ["vocals"]
    assert ratio_db(among["vocals"], among["vocals"] - alone["vocals"]) > 120


def test_a_segment_of_its_own_applies_to_every_member(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short, long = Shares(segment=0.4), Shares(segment=2.0)
    put_on_shelf(monkeypatch, short, long)
    engine = Engine(device="cpu", threads=1)
    path = write_pcm(tmp_path / "a.wav", quiet(2), RATE, "PCM_16")
    separate(engine, path, tmp_path / "own", overlap=0)
    assert (short.passes, long.passes) == (5, 1)
    separate(engine, path, tmp_path / "set", overlap=0, segment=1.0)
    assert (short.passes, long.passes) == (7, 3)


@pytest.mark.parametrize("overlap", [0.0, 0.99])
def test_members_of_different_strides_give_one_song_at_the_ends_of_overlap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overlap: float
) -> None:
    put_on_shelf(monkeypatch, Shares(segment=0.3), Shares(segment=0.7), weights=[[1.0] * 4, [2.0] * 4])
    path = write_pcm(tmp_path / "a.wav", quiet(1.31), RATE, "FLOAT")
    done = separate(
        Engine(device="cpu", threads=1), path, tmp_path / "out", overlap=overlap, shifts=1, bit_depth="float32"
    )
    mix = read(path)
    for share, stem in zip((0.4, 0.3, 0.2, 0.1), done.read().values(), strict=True):
        # Each stem also gets the whole mean of the mix, as in Demucs.
        np.testing.assert_allclose(stem, share * (mix - mix.mean()) + mix.mean(), atol=1e-5)


def test_models_used_last_stay_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded: list[str] = []
    put_on_shelf(monkeypatch, Shares())
    load = shelf.load_model
    monkeypatch.setattr(
        shelf, "load_model", lambda name, *args, **named: loaded.append(name) or load(name, *args, **named)
    )
    engine = Engine(device="cpu", threads=1)
    for name in ("a", "b", "a", "c", "a", "b"):
        engine.preload(name)
    assert shelf.MODELS_KEPT == 2
    assert loaded == ["a", "b", "c", "b"]


# --- silence, progress, names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_silence_separates_into_silence(engine: Engine, tmp_path: Path, format: str) -> None:
    path = write_pcm(tmp_path / "a.wav", np.zeros((2, 50_000)), RATE, "PCM_16")
    done = separate(engine, path, tmp_path / "out", format=format)
    for stem in done.read().values():
        assert np.abs(stem).max() <= 1e-6
    assert done.result.gain == 1.0 and done.result.residual_db is not None


def test_progress_goes_from_decoding_to_1_and_never_falls(cheap: Engine, tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(5), RATE, "PCM_16")
    progress = separate(cheap, path, tmp_path / "out").progress
    assert all(before.fraction <= after.fraction for before, after in pairwise(progress))
    assert progress[0].fraction < 0.03 and progress[-1].fraction == 1.0
    stages = [each.stage for each in progress]
    assert stages == sorted(stages, key=["decoding", "separating", "encoding"].index)
    assert stages.count("separating") == 7
    separating = [each for each in progress if each.stage == "separating"]
    assert separating[-1].fraction - separating[0].fraction > 0.7
    computing = [each.computing for each in progress]
    assert computing == sorted(computing) and computing.index(True) == stages.index("separating")
    durations = [each.duration_seconds for each in progress]
    known = durations.index(5.0)
    assert durations == [None] * known + [5.0] * (len(progress) - known)
    assert known <= stages.index("separating")


def test_encoding_goes_on_beside_the_model(shares: Shares, cheap: Engine, tmp_path: Path) -> None:
    """Stems have grown on disk before the model's last pass; the model waits for it, so no clock is needed."""
    path = write_pcm(tmp_path / "a.wav", quiet(60), RATE, "PCM_16")
    sizes: list[int] = []

    def wait_for_growth(number: int) -> None:
        if number == 70:
            sizes.append(grown(tmp_path / "out"))

    shares.on_pass = wait_for_growth
    done = separate(cheap, path, tmp_path / "out")
    assert done.result.forward_passes == 80
    assert sizes[0] > 0


def grown(folder: Path) -> int:
    """The bytes of the smallest stem, once there are any behind its header; 0 when none come."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        size = min((path.stat().st_size for path in folder.rglob("*.wav")), default=0)
        if size > 100_000:
            return size
        time.sleep(0.01)
    return 0


def test_the_manifest_says_how_the_stems_came_to_be(cheap: Engine, tmp_path: Path) -> None:
    path = write_coded(tmp_path / "My Song.mp3", quiet(1.0), RATE, "mp3", metadata={"title": "T"})
    done = separate(cheap, path, tmp_path / "out", model="some-model", format="flac", shifts=1)
    manifest = done.manifest
    assert done.result.files == (*(f"My Song/{name}.flac" for name in SOURCES), "My Song/manifest.json")
    assert manifest["source"]["name"] == "My Song.mp3" and manifest["source"]["codec"].startswith("mp3")
    assert manifest["source"]["samples"] == RATE
    assert manifest["model"] == {
        "name": "some-model",
        "sha256": "0" * 64,
        "members_run": [0],
        "computed_by": [{"backend": "torch", "device": "cpu", "precision": "fp32"}],
    }
    assert manifest["options"]["shifts"] == 1
    for stem, described in zip(done.result.stems, manifest["stems"], strict=True):
        assert described["sha256"] == stem.sha256
        assert (done.folder / "My Song" / described["path"]).is_file()
    assert soundfile.info(str(done.paths["drums"])).extra_info is not None


def test_songs_that_share_a_folder_keep_manifests_of_their_own(cheap: Engine, tmp_path: Path) -> None:
    manifests = []
    for name in ("a", "b"):
        path = write_pcm(tmp_path / f"{name}.wav", quiet(0.3), RATE, "PCM_16")
        done = separate(cheap, path, tmp_path / f"out-{name}", filename="{stem}/{track}.{ext}")
        manifests.append(done.result.files[-1])
        described = json.loads((done.folder / done.result.files[-1]).read_text())["stems"]
        assert [stem["path"] for stem in described] == [f"{stem}/{name}.wav" for stem in SOURCES]
    assert manifests == ["a.manifest.json", "b.manifest.json"]


# --- what cannot be asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stems": ("flute",)}, "stems=flute"),
        ({"two_stems": "flute"}, "two_stems=flute"),
        ({"segment": 2.5}, "segment=2.5 .*at most 2 seconds"),
        ({"split": False}, "split=no .*at most 2 seconds"),
        ({"precision": "fp16"}, "precision=fp16"),
        ({"device": "cuda"}, "device=cuda"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_pass(
    repo: Path, tmp_path: Path, options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    passes: list[int] = []
    monkeypatch.setattr("demucs.htdemucs.HTDemucs.forward", lambda self, mix: passes.append(1))
    path = write_pcm(tmp_path / "a.wav", quiet(2.6), RATE, "PCM_16")
    with pytest.raises(InvalidOption, match=says):
        separate(
            Engine(device="cpu", threads=1, model_repo=repo),
            path,
            tmp_path / "out",
            **{"model": "tiny_htdemucs", **options},
        )
    assert passes == []
    assert not (tmp_path / "out" / ".staging").exists()


def test_a_short_song_may_stay_in_one_piece(repo: Path, tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(1.9), RATE, "PCM_16")
    engine = Engine(device="cpu", threads=1, model_repo=repo)
    assert separate(engine, path, tmp_path / "out", model="tiny_htdemucs", split=False).result.forward_passes == 1


def test_an_unknown_model(repo: Path, tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(0.2), RATE, "PCM_16")
    with pytest.raises(UnknownModel, match="nonesuch"):
        separate(Engine(device="cpu", threads=1, model_repo=repo), path, tmp_path / "out", model="nonesuch")
    assert not (tmp_path / "out" / ".staging").exists()


def test_a_model_for_mono_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = Shares()
    model.audio_channels = 1
    put_on_shelf(monkeypatch, model)
    path = write_pcm(tmp_path / "a.wav", quiet(0.2), RATE, "PCM_16")
    with pytest.raises(ModelError, match="1 channels"):
        separate(Engine(device="cpu", threads=1), path, tmp_path / "out")


def test_a_bag_in_which_nobody_makes_a_stem_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_on_shelf(monkeypatch, Shares(), weights=[[1.0, 0.0, 1.0, 1.0]])
    path = write_pcm(tmp_path / "a.wav", quiet(0.2), RATE, "PCM_16")
    engine = Engine(device="cpu", threads=1)
    with pytest.raises(ModelError, match="no member"):
        separate(engine, path, tmp_path / "out")
    assert separate(engine, path, tmp_path / "drums", stems=("drums",)).result.forward_passes == 1


def test_bf16_on_a_cpu_comes_close_to_fp32(engine: Engine, song: Path, tmp_path: Path) -> None:
    options = {"bit_depth": "float32", "clip_mode": "none"}
    exact = separate(engine, song, tmp_path / "fp32", precision="fp32", **options).read()
    rough = separate(engine, song, tmp_path / "bf16", precision="bf16", **options).read()
    for name, stem in exact.items():
        assert 30 <= ratio_db(stem, stem - rough[name]) < 100, name


def test_a_change_of_threads_applies_from_the_next_pass(shares: Shares, cheap: Engine, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def on_pass(number: int) -> None:
        seen.append(torch.get_num_threads())
        if number == 2:
            cheap.set_threads(2)

    shares.on_pass = on_pass
    try:
        separate(cheap, write_pcm(tmp_path / "a.wav", quiet(3), RATE, "PCM_16"), tmp_path / "out")
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 2, 2]
