"""A model's identity, told without loading it, is the one that loading it tells."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from demucs_server_worker.separation import identity
from demucs_server_worker.separation.identity import ModelIdentities
from demucs_server_worker.separation.models import load_model
from tests.model_repo import define_bag, save_bag, save_member, tiny_demucs


def test_demo_is_known_by_what_its_manifests_say() -> None:
    assert ModelIdentities(None).digest("demo") == load_model("demo").digest


def test_a_bag_of_a_repository_likewise(tmp_path: Path) -> None:
    repo = save_bag(tmp_path, "pair", {"1a": tiny_demucs(1), "1b": tiny_demucs(2)}, segment=2)
    assert ModelIdentities(repo).digest("pair") == load_model("pair", repo).digest


def test_another_revision_of_its_files_is_another_model(tmp_path: Path) -> None:
    repo = save_bag(tmp_path, "one", {"1a": tiny_demucs(1)})
    models = ModelIdentities(repo)
    before = models.digest("one")
    define_bag(repo, "one", ["1a"], segment=2)
    shorter = models.digest("one")
    save_member(repo, "1a", tiny_demucs(2))
    assert len({before, shorter, models.digest("one")}) == 3


def test_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = save_bag(tmp_path, "one", {"1a": tiny_demucs(1)})
    hashed: list[Path] = []
    real = identity.hash_file
    monkeypatch.setattr(identity, "hash_file", lambda path: [hashed.append(path), real(path)][1])
    models = ModelIdentities(repo)
    assert models.digest("one") == models.digest("one") is not None
    assert hashed == [repo / "1a.safetensors"]


def test_the_hubs_cache_tells_hashes_by_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--us--Demucs-tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    file = save_member(define_bag(snapshot, "tiny", ["1a"]), "1a", tiny_demucs(1))
    blob = repository / "blobs" / sha256(file.read_bytes()).hexdigest()
    blob.parent.mkdir()
    file.rename(blob).parent.joinpath("..", "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    file.symlink_to(blob)
    loaded = load_model("hf://us/tiny", fetch=False)
    monkeypatch.setattr(identity, "hash_file", lambda path: pytest.fail("a file was hashed"))
    assert ModelIdentities(None).digest("hf://us/tiny") == loaded.digest


@pytest.mark.parametrize("name", ["htdemucs_ft", "no_such_model", "hf://nobody/nothing"])
def test_what_is_not_on_this_machine_has_no_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert ModelIdentities(None).digest(name) is None


def test_a_broken_repository_has_no_identity(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("models: 3")
    assert ModelIdentities(tmp_path).digest("one") is None
    assert ModelIdentities(tmp_path / "nowhere").digest("one") is None
