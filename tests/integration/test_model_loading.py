"""Models loaded from real files: the same networks as Demucs' own loader gives, ready to use."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from demucs.pretrained import get_model
from torch import nn

from demucs_server_worker.errors import ModelUnavailable
from demucs_server_worker.separation.catalogue import locate
from demucs_server_worker.separation.model_files import hash_file
from demucs_server_worker.separation.models import LoadedModel, load_model
from tests import model_repo

TINY = ("tiny_htdemucs", "tiny_hdemucs", "tiny_demucs", "tiny_ft", "tiny_mix", "tiny_twice", "1a000002")


@pytest.fixture(scope="module", params=["th", "safetensors"])
def repo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_repo.make_tiny_repo(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def pickles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_repo.make_tiny_repo(tmp_path_factory.mktemp("pickles"), "th")


def assert_same_network(one: nn.Module, other: nn.Module) -> None:
    assert type(one) is type(other)
    assert one.segment == other.segment
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("name", TINY)
def test_the_networks_are_those_that_demucs_loads(pickles: Path, repo: Path, name: str) -> None:
    loaded = load_model(name, repo)
    theirs: Any = get_model(name, pickles)
    members = getattr(theirs, "models", [theirs])
    weights = getattr(theirs, "weights", [[1.0] * len(theirs.sources)])
    assert len(loaded.members) == len(members)
    for place, other in enumerate(members):
        assert_same_network(loaded.network(place), other)
    assert [list(row) for row in loaded.weights] == weights
    assert list(loaded.sources) == theirs.sources
    assert (loaded.sample_rate, loaded.channels) == (theirs.samplerate, theirs.audio_channels)


def test_networks_come_ready_to_compute(repo: Path) -> None:
    model = load_model("tiny_mix", repo)
    for member in map(model.network, range(3)):
        assert not any(module.training for module in member.modules())
        assert all(not parameter.requires_grad for parameter in member.parameters())
        assert {parameter.device.type for parameter in member.parameters()} == {"cpu"}


def test_a_bags_segment_is_put_on_members_that_can_take_it(repo: Path) -> None:
    # 3 s are more than the transformer was trained for, so it keeps its own 2 s; the others had 4 s.
    assert [member.segment for member in load_model("tiny_mix", repo).members] == [Fraction(2), 3, 3]


def test_a_member_named_twice_is_one_network(repo: Path) -> None:
    first, second, other = load_model("tiny_twice", repo).members
    assert first is second
    assert first is not other


def test_half_precision_weights_become_single_precision(tmp_path: Path) -> None:
    network = model_repo.tiny_htdemucs()
    model_repo.save_member(tmp_path, "half", network, half=True)
    loaded = load_model("half", tmp_path).network(0).state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    for name, value in network.state_dict().items():
        assert torch.equal(loaded[name], value.half().float())


def test_the_digest_stays_with_the_files_and_changes_with_them(tmp_path: Path) -> None:
    network = model_repo.tiny_demucs(1)
    model_repo.save_bag(tmp_path, "model", {"aa": network})
    digest = load_model("model", tmp_path).digest
    assert len(digest) == 64
    assert load_model("model", tmp_path).digest == digest
    model_repo.define_bag(tmp_path, "model", ["aa"], weights=[[1, 1, 1, 2]])
    reweighted = load_model("model", tmp_path).digest
    model_repo.save_bag(tmp_path, "model", {"aa": model_repo.tiny_demucs(2)})
    assert len({digest, reweighted, load_model("model", tmp_path).digest}) == 3


def test_the_package_brings_its_own_model_whatever_the_repository(repo: Path) -> None:
    demo = load_model("demo")
    assert demo.sources == ("drums", "bass", "other", "vocals")
    assert load_model("demo", repo).digest == demo.digest


def fill_cache(cache: Path, folder: Path) -> None:
    """Lay out a repository as huggingface_hub's cache does."""
    storage = cache / "models--adefossez--HTDemucs"
    snapshot = storage / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (storage / "blobs").mkdir()
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text("0" * 40)
    for path in folder.iterdir():
        blob = storage / "blobs" / hash_file(path)
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_in_the_hubs_cache_is_loaded_without_a_network(cache: Path, tmp_path: Path) -> None:
    folder = model_repo.save_bag(tmp_path / "origin", "htdemucs", {"955717e8": model_repo.tiny_htdemucs(3)})
    fill_cache(cache, folder)
    assert locate("htdemucs", None).on_disk
    loaded = load_model("htdemucs", fetch=False)
    assert_same_network(loaded.network(0), model_repo.tiny_htdemucs(3))
    assert loaded.digest == load_model("htdemucs", folder).digest


def test_a_model_that_is_not_there_and_may_not_be_fetched_is_unavailable(cache: Path) -> None:
    with pytest.raises(ModelUnavailable):
        load_model("htdemucs", fetch=False)
    assert not cache.exists()


def output_of(model: LoadedModel, seconds: float) -> torch.Tensor:
    torch.manual_seed(0)
    mix = 0.3 * torch.randn(1, 2, int(seconds * model.sample_rate))  # (batch, channels, samples)
    with torch.inference_mode():
        return model.network(0)(mix)[0]  # (stems, channels, samples)


@pytest.mark.parametrize("name", ["tiny_htdemucs", "tiny_hdemucs", "tiny_demucs"])
def test_random_weights_give_stems_of_a_sensible_size(repo: Path, name: str) -> None:
    model = load_model(name, repo)
    stems = output_of(model, float(model.members[0].segment))
    levels = 20 * stems.square().mean(dim=(1, 2)).sqrt().log10()
    assert all(-70 < level < 0 and math.isfinite(level) for level in levels.tolist())


def test_the_published_architecture_has_its_published_size(tmp_path: Path) -> None:
    model = load_model("htdemucs", model_repo.make_htdemucs_repo(tmp_path))
    (member,) = model.members
    assert sum(parameter.numel() for parameter in member.parameters()) == model_repo.HTDEMUCS_PARAMETERS
    assert (member.segment, model.sources) == (Fraction(39, 5), ("drums", "bass", "other", "vocals"))
