"""OpenVINO against torch on the same weights, through the engine and beneath it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from demucs_server_worker.separation import models
from demucs_server_worker.separation.backends import cache
from demucs_server_worker.separation.backends.cache import ConversionCache
from demucs_server_worker.separation.backends.choice import Backends, is_proven
from demucs_server_worker.separation.backends.conversion import CONVERTED, NETWORK, WEIGHTS
from demucs_server_worker.separation.backends.openvino_backend import ConvertedCore, OpenVinoBackend
from demucs_server_worker.separation.backends.split import Ends
from demucs_server_worker.separation.backends.torch_backend import TorchBackend
from demucs_server_worker.separation.device import multiplies_bf16
from demucs_server_worker.separation.engine import Engine
from demucs_server_worker.separation.model_files import WeightFile
from demucs_server_worker.separation.models import LoadedModel, load_model
from demucs_server_worker.separation.weights import fill
from tests import model_repo
from tests.audio_files import tones, write_pcm
from tests.conftest import CONVERSIONS
from tests.conversions import converter_command, loaded, names_in, quiet
from tests.separations import ratio_db, separate

pytest.importorskip("openvino")

CPU = torch.device("cpu")
FP32_DB, HALF_DB = 110.0, 40.0

WATCH = """
import os, sys
def hook(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork"):
        with open(os.environ["HEARD"], "a") as file:
            file.write(event + "\\n")
    if event == "import" and arguments[0].partition(".")[0] in ("openvino", "openvino_telemetry"):
        with open(os.environ["IMPORTED"], "a") as file:
            file.write(arguments[0] + "\\n")
sys.addaudithook(hook)
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_repo.make_tiny_repo(tmp_path_factory.mktemp("repo"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the conversions of this module are."""
    return tmp_path_factory.mktemp("conversions")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a conversion of the tiny network, and what its converter imported and asked the system for."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "sitecustomize.py").write_text(WATCH)
    (folder / "home").mkdir()
    torch.save(model_repo.tiny_htdemucs(), folder / NETWORK)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "CI"},  # where it would hold its tongue
        "PYTHONPATH": str(folder), "HEARD": str(folder / "heard"), "IMPORTED": str(folder / "imported"),
        "HOME": str(folder / "home"),
    }  # fmt: skip
    with subprocess.Popen(converter_command(folder), env=environment, stdin=subprocess.PIPE) as converter:
        assert converter.wait(120) == 0
    return folder


@pytest.fixture(scope="module")
def tiny_path(watched: Path, folder: Path) -> Path:
    """The same conversion under the name that `Backends` gives the first member of `conversions.loaded`."""

    def converter(to: Path, on_wait: object) -> None:
        for name in (CONVERTED, WEIGHTS):
            shutil.copy(watched / name, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_run_converter", converter)
        return ConversionCache(folder).take("tiny_htdemucs/0", model_repo.tiny_htdemucs, quiet)


@pytest.fixture(scope="module")
def tiny(tiny_path: Path) -> ConvertedCore:
    return ConvertedCore(tiny_path)


def noise(samples: int, batch: int = 1) -> Tensor:
    """Noise with an offset and a swell, (batch, 2, samples)."""
    generator = torch.Generator().manual_seed(samples)
    swell = 0.2 + 0.1 * torch.sin(torch.linspace(0, 9, samples))
    return torch.randn(batch, 2, samples, generator=generator) * swell + torch.tensor([[0.02], [-0.01]])


def of_torch(network: nn.Module, batch: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return TorchBackend(network, CPU, dtype).run(batch)


def snr_db(reference: Tensor, estimate: Tensor) -> float:
    return ratio_db(reference.numpy(), (reference - estimate).numpy())


@pytest.mark.parametrize(("samples", "batch"), [(88_200, 1), (50_001, 1), (300, 1), (88_200, 2)])
def test_fp32_equals_torch_for_every_length_and_batch(tiny: ConvertedCore, samples: int, batch: int) -> None:
    network, mix = model_repo.tiny_htdemucs(), noise(samples, batch)
    found = OpenVinoBackend(Ends(network), tiny, torch.float32, lambda: 1).run(mix)
    assert found.shape == (batch, 4, 2, samples)
    assert snr_db(of_torch(network, mix), found) >= FP32_DB


def test_another_number_of_threads_counts_once_it_stays(tiny_path: Path) -> None:
    now = [0.0]
    core = ConvertedCore(tiny_path, clock=lambda: now[0])
    network, threads = model_repo.tiny_htdemucs(), [1]
    backend = OpenVinoBackend(Ends(network), core, torch.float32, lambda: threads[0])
    computed_with = []
    for now[0], threads[0] in ((0.0, 1), (1.0, 2), (2.0, 1), (3.0, 2), (5.9, 2), (6.0, 2), (7.0, 1), (9.0, 2)):
        backend.run(noise(300))
        computed_with.append(core._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS"))
    assert computed_with == [1, 1, 1, 1, 1, 2, 2, 2]


def test_threads_are_not_pinned_to_the_cores_that_other_workers_use_too(tiny: ConvertedCore) -> None:
    tiny.prepare(torch.float32, 1)
    assert tiny._request.get_compiled_model().get_property("ENABLE_CPU_PINNING") is False


def test_the_engine_separates_with_it_as_with_torch(repo: Path, folder: Path, tmp_path: Path) -> None:
    song = write_pcm(tmp_path / "song.wav", tones(130_000, 44_100), 44_100, "FLOAT")
    stems = {}
    for backend in ("torch", "openvino"):
        engine = Engine(device="cpu", threads=1, model_repo=repo, backend=backend, cache_dir=folder, precision="fp32")
        done = separate(engine, song, tmp_path / backend, model="tiny_htdemucs", bit_depth="float32", clip_mode="none")
        stems[backend] = done.read()
        assert done.manifest["model"]["computed_by"] == [{"backend": backend, "device": "cpu", "precision": "fp32"}]
    for name, expected in stems["torch"].items():
        assert ratio_db(expected, expected - stems["openvino"][name]) >= 90


def test_weights_are_read_once_torch_needs_them_and_not_for_a_conversion(
    repo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demucs_server_worker.separation.backends.choice.LEAST_PARAMETERS", 1)
    assert Backends("auto", folder, threads=lambda: 1).of(load_model("tiny_htdemucs", repo), 0, CPU, "fp32")
    read: list[WeightFile] = []
    monkeypatch.setattr(models, "fill", lambda *of: [read.append(of[-1]), fill(*of)][1])
    backends = Backends("auto", folder, threads=lambda: 1)
    model, mix = load_model("tiny_htdemucs", repo), noise(88_200)
    fast = [backends.of(model, 0, CPU, "fp32").computed.backend for _ in range(2)]
    assert (fast, read) == (["openvino"] * 2, [])
    assert all(each.is_meta for each in model.members[0].parameters())
    monkeypatch.setattr(ConvertedCore, "prepare", _out_of_order)
    slow = backends.of(model, 0, CPU, "fp32")
    assert (slow.computed.backend, read) == ("torch", [*model.files])
    assert snr_db(slow.run(mix), of_torch(model_repo.tiny_htdemucs(1), mix)) >= FP32_DB


def test_the_weights_of_a_fresh_conversion_are_held_once(tiny_path: Path, folder: Path) -> None:
    model = loaded(model_repo.tiny_htdemucs())
    assert Backends("openvino", folder, threads=lambda: 1).of(model, 0, CPU, "fp32").computed.backend == "openvino"
    assert all(each.is_meta for each in model.members[0].parameters())


def _out_of_order(*_: object) -> None:
    raise RuntimeError("out of order")


def test_a_whole_conversion_that_openvino_cannot_read_is_made_anew(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def converter(folder: Path, on_wait: object) -> None:
        runs.append(folder)
        for name in (CONVERTED, WEIGHTS):
            content = (tiny_path.parent / name).read_bytes() if len(runs) > 1 else b"<no model>"
            (folder / name).write_bytes(content)

    monkeypatch.setattr(cache, "_run_converter", converter)
    backends = Backends("openvino", tmp_path, threads=lambda: 1)
    assert backends.of(loaded(model_repo.tiny_htdemucs()), 0, CPU, "fp32").computed.backend == "openvino"
    assert len(runs) == 2
    assert len(names_in(tmp_path)) == 1


def test_a_conversion_phones_nobody(watched: Path) -> None:
    assert (watched / CONVERTED).stat().st_size > 0
    imported = (watched / "imported").read_text().split()
    assert "openvino" in imported  # the watch works
    assert not (watched / "heard").exists()
    assert not any(name.startswith("openvino_telemetry.") for name in imported)
    assert not (watched / "home" / "intel").exists()  # where it keeps its user's id and consent


# --- the architecture that Demucs publishes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model("htdemucs", model_repo.make_htdemucs_repo(tmp_path_factory.mktemp("published")))


class Passes:
    """A full segment of the published network by each way; each way is gone once."""

    def __init__(self, model: LoadedModel) -> None:
        self._network, self._mix = model_repo.htdemucs(), noise(343_980)
        # The one that workers take for this model: tests that run them (test_real_songs.py) find it, or left it here.
        digest = f"{model.digest}/0"
        self._core = ConvertedCore(ConversionCache(CONVERSIONS).take(digest, model_repo.htdemucs, quiet))
        self._found: dict[tuple[str, torch.dtype], Tensor] = {}

    def by(self, backend: str, dtype: torch.dtype) -> Tensor:
        if (backend, dtype) not in self._found:
            self._found[backend, dtype] = (
                of_torch(self._network, self._mix, dtype)
                if backend == "torch"
                else OpenVinoBackend(Ends(self._network), self._core, dtype, torch.get_num_threads).run(self._mix)
            )
        return self._found[backend, dtype]


@pytest.fixture(scope="module")
def passes(published: LoadedModel) -> Passes:
    return Passes(published)


def test_the_published_htdemucs_in_fp32_is_that_of_torch(passes: Passes) -> None:
    assert is_proven(model_repo.htdemucs())
    assert snr_db(passes.by("torch", torch.float32), passes.by("openvino", torch.float32)) >= FP32_DB


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.skipif(not multiplies_bf16(CPU), reason="auto is fp32 on this processor")
def test_the_published_htdemucs_in_bf16_stays_within_the_gate(passes: Passes, backend: str) -> None:
    expected, found = passes.by("torch", torch.float32), passes.by(backend, torch.bfloat16)
    ratios = [snr_db(expected[:, place], found[:, place]) for place in range(4)]
    assert min(ratios) >= HALF_DB
    assert max(ratios) < FP32_DB  # it was bf16
