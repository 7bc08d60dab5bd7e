"""Weights are read when a network must run, from the files that were verified, and not before."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from demucs_server_worker.errors import ModelCorrupt, WeightsChanged
from demucs_server_worker.separation import known_hashes, models
from demucs_server_worker.separation.engine import Engine
from demucs_server_worker.separation.models import load_model
from demucs_server_worker.separation.weights import fill, has_weights
from tests import model_repo
from tests.audio_files import tones, write_pcm
from tests.separations import separate


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pcm(tmp_path_factory.mktemp("songs") / "song.wav", tones(60_000, 44_100), 44_100, "FLOAT")


@pytest.fixture(params=["th", "safetensors"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return model_repo.make_tiny_repo(tmp_path / "repo", request.param)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The signatures of the files whose weights were read, in order."""
    signatures: list[str] = []
    monkeypatch.setattr(models, "fill", lambda *of: [signatures.append(of[-1].signature), fill(*of)][1])
    return signatures


@pytest.mark.parametrize("name", ["tiny_htdemucs", "tiny_hdemucs", "tiny_demucs"])
def test_a_loaded_model_knows_its_rules_before_it_has_weights(repo: Path, read: list[str], name: str) -> None:
    model = load_model(name, repo)
    skeleton, whole = model.members[0], getattr(model_repo, name)(1)
    assert not has_weights(skeleton)
    assert (skeleton.segment, skeleton.samplerate) == (whole.segment, whole.samplerate)
    if name != "tiny_hdemucs":  # which takes any length
        assert skeleton.valid_length(50_000) == whole.valid_length(50_000)
    assert sum(each.numel() for each in skeleton.parameters()) == sum(each.numel() for each in whole.parameters())
    assert read == []
    assert model.network(0) is skeleton
    assert has_weights(skeleton)
    assert model.network(0) is skeleton
    assert len(read) == 1


def test_of_a_bag_only_the_members_that_a_stem_needs_are_read(
    repo: Path, read: list[str], song: Path, tmp_path: Path
) -> None:
    engine = Engine(device="cpu", model_repo=repo, backend="torch")
    engine.preload("tiny_ft")
    assert read == []
    for stem, signatures in {"bass": ["1a000003"], "vocals": ["1a000003", "1a000005"]}.items():
        done = separate(engine, song, tmp_path / stem, model="tiny_ft", stems=(stem,))
        assert list(done.paths) == [stem]
        assert read == signatures


def path_of(repo: Path, signature: str) -> Path:
    (path,) = repo.glob(f"{signature}.*")
    return path


def test_weights_exchanged_after_loading_are_not_taken_for_the_old_ones(repo: Path, song: Path, tmp_path: Path) -> None:
    engine = Engine(device="cpu", model_repo=repo, backend="torch")
    before = separate(engine, song, tmp_path / "drums", model="tiny_ft", stems=("drums",)).result.model_sha256
    file = path_of(repo, "1a000003")
    model_repo.save_member(repo, "1a000003", model_repo.tiny_htdemucs(9), file.suffix[1:])
    with pytest.raises(WeightsChanged) as caught:
        separate(engine, song, tmp_path / "bass", model="tiny_ft", stems=("bass",))
    assert caught.value.retryable
    again = separate(engine, song, tmp_path / "again", model="tiny_ft", stems=("bass",))
    assert again.result.model_sha256 == load_model("tiny_ft", repo).digest != before


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_weights_that_are_gone_or_damaged_after_loading_are_refused(repo: Path, damage: object) -> None:
    model = load_model("tiny_htdemucs", repo)
    assert callable(damage)
    damage(model.files[0].path)
    with pytest.raises(WeightsChanged, match="1a000001"):
        model.network(0)
    assert not has_weights(model.members[0])


def test_a_failure_halfway_leaves_no_half_of_the_weights(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("tiny_demucs", repo)

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("demucs_server_worker.separation.weights.set_state", out_of_memory)
        with pytest.raises(MemoryError):
            model.network(0)
    assert not has_weights(model.members[0])
    expected = model_repo.tiny_demucs(1).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.network(0).state_dict().items())


def test_loading_does_not_bring_in_what_takes_longer_to_import_than_weights_to_read(tmp_path: Path) -> None:
    # torch's decompositions for the meta device import its compiler and sympy: a second and a half.
    model_repo.save_bag(tmp_path, "tiny", {"aa": model_repo.tiny_htdemucs()})
    program = f"""
import sys
from hashlib import sha256
from pathlib import Path
from demucs_server_worker.separation.models import load_model
assert load_model("tiny", Path({str(tmp_path)!r})).members
print(sorted({{"sympy", "torch._dynamo", "huggingface_hub", "matplotlib"}} & sys.modules.keys()))
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert child.stdout.strip() == "[]"


def test_damage_that_no_stamp_shows_is_found_before_the_weights_compute(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_hashes, "LEAST_BYTES", 0)
    monkeypatch.setattr(known_hashes, "SETTLED_SECONDS", -1e9)
    file = path_of(repo, "1a000001")
    digest = sha256(file.read_bytes()).hexdigest()
    file = file.rename(file.with_stem(f"1a000001-{digest[:8]}"))
    Engine(device="cpu", model_repo=repo, backend="torch", cache_dir=tmp_path).preload("tiny_htdemucs")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    # As a failing disk does it: the record of its hash still fits.
    for record in (tmp_path / "hashes").iterdir():
        written = json.loads(record.read_text())
        if written["mark"][0] == str(file):
            record.write_text(json.dumps(written | {"mark": known_hashes._mark(file)}))
    engine = Engine(device="cpu", model_repo=repo, backend="torch", cache_dir=tmp_path)
    with pytest.raises(WeightsChanged):
        engine.preload("tiny_htdemucs")
    with pytest.raises(ModelCorrupt, match="sha256 begins with"):
        engine.preload("tiny_htdemucs")
