"""Which backend is taken, and what is said about it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from demucs_server_worker.errors import InvalidOption, ModelError, OutOfMemory
from demucs_server_worker.separation.backends import choice
from demucs_server_worker.separation.backends.cache import NoMemoryNow, NotConverted
from demucs_server_worker.separation.backends.choice import Backends, Wanted, is_proven, why_not_openvino
from demucs_server_worker.separation.backends.split import is_divisible
from demucs_server_worker.separation.models import LoadedModel, load_model
from tests import model_repo

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenVINO were there; that it can be imported is for the integration tests."""
    monkeypatch.setattr(choice, "is_installed", lambda: True)


def loaded(*members: nn.Module, digest: str = "d") -> LoadedModel:
    rows = tuple((1.0,) * 4 for _ in members)
    return LoadedModel("some", tuple(model_repo.SOURCES), 44_100, 2, members, rows, digest)


def backends(wanted: Wanted, folder: Path) -> Backends:
    return Backends(wanted, folder, threads=lambda: 1)


def test_a_hybrid_transformer_on_the_cpu_can_run_on_openvino() -> None:
    network = model_repo.tiny_htdemucs()
    assert is_divisible(network)
    assert why_not_openvino(network, CPU, torch.float32) is None
    assert why_not_openvino(network, CPU, torch.bfloat16) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("cac", False), ("use_train_segment", False)],
)
def test_settings_decide_and_not_the_class(name: str, value: bool) -> None:
    network = model_repo.tiny_htdemucs()
    setattr(network, name, value)
    assert not is_divisible(network)


def test_random_positions_and_other_embeddings_are_not_converted() -> None:
    network = model_repo.tiny_htdemucs()
    network.crosstransformer.sin_random_shift = 3
    assert not is_divisible(network)
    network = model_repo.tiny_htdemucs()
    network.crosstransformer.emb = "cape"
    assert not is_divisible(network)


def test_other_families_devices_and_precisions_are_refused_with_a_reason() -> None:
    network = model_repo.tiny_htdemucs()
    assert "hybrid transformers" in str(why_not_openvino(model_repo.tiny_hdemucs(), CPU, torch.float32))
    assert "hybrid transformers" in str(why_not_openvino(model_repo.tiny_demucs(), CPU, torch.float32))
    assert "the device is cuda" in str(why_not_openvino(network, torch.device("cuda"), torch.float32))
    assert "not torch.float16" in str(why_not_openvino(network, CPU, torch.float16))


def test_auto_runs_small_networks_on_torch_in_fp32_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = loaded(model_repo.tiny_htdemucs())
    assert not is_proven(model.members[0])
    chooser = backends("auto", tmp_path)
    with caplog.at_level(logging.INFO):
        found = [chooser.of(model, 0, CPU, "auto").computed for _ in range(3)]
    assert {(each.backend, each.precision) for each in found} == {("torch", "fp32")}
    assert [record.message for record in caplog.records] == [
        "some runs on torch and not on OpenVINO: the network is too small to be worth converting"
    ]


def test_auto_without_openvino_says_what_to_install(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_installed", lambda: False)
    found = backends("auto", tmp_path).of(loaded(model_repo.tiny_htdemucs()), 0, CPU, "fp32").computed
    assert (found.backend, found.device, found.precision) == ("torch", "cpu", "fp32")
    assert "pip install 'demucs-server-worker[openvino]'" in caplog.text


def test_openvino_by_name_is_refused_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_installed", lambda: False)
    with pytest.raises(InvalidOption, match=r"backend=openvino .*pip install"):
        backends("openvino", tmp_path)


def test_openvino_by_name_is_an_error_for_a_model_that_it_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot run on OpenVINO: it is proven for hybrid transformers"):
        backends("openvino", tmp_path).of(loaded(model_repo.tiny_hdemucs()), 0, CPU, "fp32")


def test_torch_by_name_asks_no_further(tmp_path: Path) -> None:
    assert (
        backends("torch", tmp_path).of(loaded(model_repo.tiny_htdemucs()), 0, CPU, "bf16").computed.precision == "bf16"
    )


class NoConversion:
    """A cache that has none, and counts who asks."""

    asked = 0

    def __init__(self, *_: object) -> None:
        pass

    def take(self, digest: str, *_: object) -> Path:
        type(self).asked += 1
        raise NotConverted("no room")


class NoMemory(NoConversion):
    """A cache that has no memory to convert with."""

    def take(self, digest: str, *_: object) -> Path:
        type(self).asked += 1
        raise NoMemoryNow("too little")


def test_where_nothing_can_be_converted_auto_takes_torch_and_asks_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "LEAST_PARAMETERS", 1)
    monkeypatch.setattr(choice, "ConversionCache", NoConversion)
    monkeypatch.setattr(NoConversion, "asked", 0)
    chooser, model = backends("auto", tmp_path), loaded(model_repo.tiny_htdemucs())
    assert [chooser.of(model, 0, CPU, "fp32").computed.backend for _ in range(2)] == ["torch", "torch"]
    assert NoConversion.asked == 1
    assert caplog.text.count("because OpenVINO cannot be used: no room") == 1


def test_where_memory_is_short_auto_takes_torch_and_asks_again_for_the_next_song(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "LEAST_PARAMETERS", 1)
    monkeypatch.setattr(choice, "ConversionCache", NoMemory)
    monkeypatch.setattr(NoMemory, "asked", 0)
    chooser, model = backends("auto", tmp_path), loaded(model_repo.tiny_htdemucs())
    assert [chooser.of(model, 0, CPU, "fp32").computed.backend for _ in range(2)] == ["torch", "torch"]
    assert NoMemory.asked == 2
    assert caplog.text.count("because OpenVINO cannot be used: too little") == 1


def test_openvino_by_name_may_be_tried_again_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "ConversionCache", NoMemory)
    with pytest.raises(OutOfMemory, match="too little") as raised:
        backends("openvino", tmp_path).of(loaded(model_repo.tiny_htdemucs()), 0, CPU, "fp32")
    assert raised.value.retryable


def test_openvino_by_name_fails_where_nothing_can_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ConversionCache", NoConversion)
    with pytest.raises(ModelError, match="no room"):
        backends("openvino", tmp_path).of(loaded(model_repo.tiny_htdemucs()), 0, CPU, "fp32")


def test_a_member_that_let_go_of_its_weights_reads_them_again_for_torch(tmp_path: Path) -> None:
    repo = model_repo.save_bag(tmp_path / "repo", "some", {"aa": model_repo.tiny_htdemucs(3)})
    model = load_model("some", repo)
    model.network(0).to("meta")
    mix = torch.randn(1, 2, 88_200)
    found = backends("torch", tmp_path).of(model, 0, CPU, "fp32").run(mix)
    with torch.inference_mode():
        assert torch.equal(found, model_repo.tiny_htdemucs(3)(mix))
