"""Models that cannot be fetched, arrive damaged, or are not what they claim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from demucs_server_worker.errors import ModelCorrupt, ModelError, UnknownModel
from demucs_server_worker.separation.models import load_model
from tests.fake_hub import COMMIT, FakeHub, broken_off, corrupted
from tests.model_repo import define_bag, metadata_of, save_bag, save_member, tiny_demucs, tiny_htdemucs

SIGNATURE = "3a000001"
WEIGHTS = f"{SIGNATURE}.safetensors"
CACHED = Path("hub", "models--someone--Demucs-tiny")

# What a process that wants a model does: fetch it, and say how that ended. The line of filelock tells that it waits.
CHILD = """
import json, logging, sys
from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.separation.catalogue import download

logging.getLogger("filelock").setLevel(logging.DEBUG)
logging.basicConfig(stream=sys.stderr)
pieces = []
try:
    paths = download(sys.argv[1], lambda *piece: pieces.append(piece))
    outcome = {"paths": [str(path) for path in paths]}
except DemucsWorkerError as error:
    outcome = {"code": error.code, "message": error.message, "retryable": error.retryable}
print(json.dumps(outcome | {"pieces": pieces, "torch": "torch" in sys.modules}))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add("someone/Demucs-tiny", save_bag(tmp_path / "origin", "tiny", {SIGNATURE: tiny_demucs(1)}))
        yield hub


def start(home: Path, endpoint: str, model: str = "hf://someone/tiny") -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = own | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_ETAG_TIMEOUT": "5"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", CHILD, model], env=environment, stdout=pipe, stderr=pipe, text=True)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def fetch(home: Path, endpoint: str, model: str = "hf://someone/tiny") -> dict[str, Any]:
    return outcome(start(home, endpoint, model))


def damage_cache(home: Path) -> Path:
    """Flip some bytes of the weights in the cache, as a bad disk would."""
    path = home / CACHED / "snapshots" / COMMIT / WEIGHTS
    blob = path.resolve()
    blob.write_bytes(corrupted(blob.read_bytes()))
    return path


def content(hub: FakeHub, name: str = WEIGHTS) -> bytes:
    return hub.repositories["someone/Demucs-tiny"][name]


def test_a_model_is_fetched_into_the_cache_and_nothing_else_is(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["someone/Demucs-tiny"] |= {"README.md": b"a card", f"{SIGNATURE}.json": b"{}"}
    done = fetch(tmp_path / "home", hub.url)
    assert [Path(path).name for path in done["paths"]] == [WEIGHTS]
    assert Path(done["paths"][0]).read_bytes() == content(hub)
    assert hub.downloads == {"tiny.yaml": 1, WEIGHTS: 1}
    assert {path.rpartition("/")[2] for path in hub.asked} == {"tiny.yaml", WEIGHTS}
    assert done["torch"] is False


def test_no_telemetry_goes_with_the_requests(hub: FakeHub, tmp_path: Path) -> None:
    fetch(tmp_path / "home", hub.url)
    assert hub.agents
    assert all("torch" not in agent for agent in hub.agents)


def test_progress_is_told_up_to_the_size_of_the_file(hub: FakeHub, tmp_path: Path) -> None:
    pieces = [piece for piece in fetch(tmp_path / "home", hub.url)["pieces"] if piece[0] == WEIGHTS]
    size = len(content(hub))
    assert pieces[-1] == [WEIGHTS, size, size]
    assert [piece[1] for piece in pieces] == sorted(piece[1] for piece in pieces)


def test_a_filled_cache_works_without_a_network_and_without_a_write(hub: FakeHub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    fetch(home, hub.url)
    before = sorted(home.rglob("*"))
    asked = len(hub.asked)
    again = fetch(home, "http://127.0.0.1:9")
    assert Path(again["paths"][0]).read_bytes() == content(hub)
    assert len(hub.asked) == asked
    assert sorted(home.rglob("*")) == before


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    done = fetch(tmp_path / "home", "http://127.0.0.1:9", "htdemucs")
    assert (done["code"], done["retryable"]) == ("model_unavailable", True)
    assert "models --download htdemucs" in done["message"]


@pytest.mark.parametrize("model", ["hf://nobody/tiny", "hf://someone/huge"])
def test_a_model_that_the_hub_lacks_is_unknown(hub: FakeHub, tmp_path: Path, model: str) -> None:
    hub.repositories["someone/Demucs-huge"] = {"README.md": b"no model here"}
    assert fetch(tmp_path / "home", hub.url, model)["code"] == "unknown_model"


def test_a_download_that_breaks_off_is_carried_on(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = [broken_off]
    done = fetch(tmp_path / "home", hub.url)
    assert Path(done["paths"][0]).read_bytes() == content(hub)
    assert hub.downloads[WEIGHTS] == 2


def test_a_download_with_another_hash_is_fetched_again_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = [corrupted]
    done = fetch(tmp_path / "home", hub.url)
    assert Path(done["paths"][0]).read_bytes() == content(hub)
    assert hub.downloads[WEIGHTS] == 2


def test_a_download_with_another_hash_twice_is_corrupt(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = [corrupted] * 3
    done = fetch(tmp_path / "home", hub.url)
    assert (done["code"], done["retryable"]) == ("model_corrupt", False)
    assert hub.downloads[WEIGHTS] == 2


def test_a_file_damaged_in_the_cache_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    fetch(tmp_path / "home", hub.url)
    damage_cache(tmp_path / "home")
    done = fetch(tmp_path / "home", hub.url)
    assert Path(done["paths"][0]).read_bytes() == content(hub)
    assert hub.downloads == {"tiny.yaml": 1, WEIGHTS: 2}


def test_a_file_damaged_in_the_cache_is_corrupt_without_a_network(hub: FakeHub, tmp_path: Path) -> None:
    fetch(tmp_path / "home", hub.url)
    damaged = damage_cache(tmp_path / "home")
    done = fetch(tmp_path / "home", "http://127.0.0.1:9")
    assert done["code"] == "model_corrupt"
    assert str(damaged) in done["message"]


def test_a_damaged_definition_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults["tiny.yaml"] = [lambda text: b"\xff" * len(text)]
    assert "paths" in fetch(tmp_path / "home", hub.url)
    assert hub.downloads["tiny.yaml"] == 2


def test_of_two_processes_at_once_one_fetches(hub: FakeHub, tmp_path: Path) -> None:
    # Both find a damaged file, so that both would force a download if the lock did not keep the second out.
    fetch(tmp_path / "home", hub.url)
    damage_cache(tmp_path / "home")
    hub.downloads.clear()
    first, second = start_two(hub, tmp_path / "home")
    hub.gate.set()
    assert [outcome(process)["paths"] for process in (first, second)] == [[str(cached_weights(tmp_path / "home"))]] * 2
    assert hub.downloads == {WEIGHTS: 1}


def test_when_the_one_that_fetches_is_killed_the_other_takes_over(hub: FakeHub, tmp_path: Path) -> None:
    first, second = start_two(hub, tmp_path / "home")
    assert not cached_weights(tmp_path / "home").exists()
    first.kill()
    first.communicate()
    hub.gate.set()
    assert outcome(second)["paths"] == [str(cached_weights(tmp_path / "home"))]
    assert cached_weights(tmp_path / "home").read_bytes() == content(hub)


def cached_weights(home: Path) -> Path:
    return home / CACHED / "snapshots" / COMMIT / WEIGHTS


def start_two(hub: FakeHub, home: Path) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """One process halfway through the weights, another that waits for the lock."""
    hub.gate.clear()
    hub.halfway.clear()
    first = start(home, hub.url)
    assert hub.halfway.wait(60)
    second = start(home, hub.url)
    assert second.stderr is not None
    assert any("not acquired" in line for line in second.stderr)
    return first, second


# --- files that are there, and are not what they claim ---------------------------------------------------------------


@pytest.mark.parametrize("form", ["safetensors", "th"])
def test_a_checksum_in_the_name_is_compared(tmp_path: Path, form: Any) -> None:
    path = save_member(tmp_path, SIGNATURE, tiny_demucs(1), form, checksum=True)
    load_model(SIGNATURE, tmp_path)
    path.write_bytes(corrupted(path.read_bytes()))
    with pytest.raises(ModelCorrupt, match="sha256"):
        load_model(SIGNATURE, tmp_path)


@pytest.mark.parametrize("form", ["safetensors", "th"])
@pytest.mark.parametrize("length", [0, 7, 1000, -1000])
def test_a_file_cut_short_is_corrupt(tmp_path: Path, form: Any, length: int) -> None:
    path = save_member(tmp_path, SIGNATURE, tiny_demucs(1), form)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelCorrupt):
        load_model(SIGNATURE, tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "th"])
def test_text_is_no_model(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"{SIGNATURE}.{suffix}").write_text("<html>404 not found</html>\n" * 100)
    with pytest.raises(ModelCorrupt):
        load_model(SIGNATURE, tmp_path)


@pytest.mark.parametrize("klass", ["os.system", "demucs.hdemucs.HEncLayer", "strangers_module.Network", "HTDemucs", ""])
def test_a_file_may_not_name_any_class_it_likes(tmp_path: Path, klass: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strangers_module.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    network = tiny_demucs(1)
    save_file(network.state_dict(), tmp_path / WEIGHTS, metadata=metadata_of(network) | {"klass": klass})
    with pytest.raises(ModelCorrupt, match="not a network of Demucs"):
        load_model(SIGNATURE, tmp_path)
    assert not (tmp_path / "ran").exists()


def save_quantised(folder: Path, quantiser: str) -> None:
    """What Demucs' quantised weights look like on the hub: a tree of packed tensors, with the quantiser's class."""
    structure = {"_dict": [["__quantized", True], ["meta", {"_dict": [["klass", {"_class": quantiser}]]}]]}
    metadata = metadata_of(tiny_demucs(1)) | {"structure": json.dumps(structure)}
    save_file({"packed": torch.zeros(4)}, folder / WEIGHTS, metadata=metadata)


@pytest.fixture
def no_diffq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffq", None)  # importing it then fails as if it were not installed


@pytest.mark.usefixtures("no_diffq")
def test_a_quantised_model_says_which_package_it_needs(tmp_path: Path) -> None:
    save_quantised(tmp_path, "diffq.diffq.DiffQuantizer")
    with pytest.raises(ModelError, match="pip install diffq") as caught:
        load_model(SIGNATURE, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("model_unavailable", False)


@pytest.mark.usefixtures("no_diffq")
def test_a_quantised_pickle_does_not_end_the_process(tmp_path: Path) -> None:
    network = tiny_demucs(1)
    args, kwargs = network._init_args_kwargs
    package = {"klass": type(network), "args": args, "kwargs": kwargs, "state": {"__quantized": True}}
    torch.save(package, tmp_path / f"{SIGNATURE}.th")
    with pytest.raises(ModelError, match="pip install diffq"):
        load_model(SIGNATURE, tmp_path)


def test_a_quantised_file_may_not_import_what_it_likes(tmp_path: Path) -> None:
    save_quantised(tmp_path, "subprocess.Popen")
    with pytest.raises(ModelCorrupt, match=r"subprocess\.Popen"):
        load_model(SIGNATURE, tmp_path)


def test_weights_of_another_architecture_are_corrupt(tmp_path: Path) -> None:
    save_file(tiny_htdemucs().state_dict(), tmp_path / WEIGHTS, metadata=metadata_of(tiny_demucs()))
    with pytest.raises(ModelCorrupt, match="does not load"):
        load_model(SIGNATURE, tmp_path)


def test_a_pickle_is_not_loaded_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_member(tmp_path, SIGNATURE, tiny_demucs(1), "th")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModel):
        load_model(SIGNATURE)


def test_members_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    save_bag(tmp_path, "odd", {"a": tiny_demucs(1), "b": tiny_demucs(1, sources=["vocals", "rest"])})
    with pytest.raises(ModelError, match="differ"):
        load_model("odd", tmp_path)


def test_weights_for_other_stems_are_refused(tmp_path: Path) -> None:
    save_bag(tmp_path, "odd", {"a": tiny_demucs(1)}, weights=[[1.0, 1.0]])
    with pytest.raises(ModelError, match="weights do not fit"):
        load_model("odd", tmp_path)


def test_a_member_that_is_missing_is_named(tmp_path: Path) -> None:
    save_member(tmp_path, "here", tiny_demucs(1))
    define_bag(tmp_path, "half", ["here", "gone"])
    with pytest.raises(ModelError, match="gone"):
        load_model("half", tmp_path)


def test_two_files_for_one_signature_are_refused(tmp_path: Path) -> None:
    save_member(tmp_path, SIGNATURE, tiny_demucs(1), checksum=True)
    save_member(tmp_path, SIGNATURE, tiny_demucs(2), checksum=True)
    with pytest.raises(ModelCorrupt, match="more than one"):
        load_model(SIGNATURE, tmp_path)
