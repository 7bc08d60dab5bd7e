"""What models there are, by name, without loading any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demucs_server_worker.errors import InvalidOption, ModelCorrupt, UnknownModel
from demucs_server_worker.separation import hub
from demucs_server_worker.separation.catalogue import DEMUCS_MODELS, list_models, locate
from demucs_server_worker.separation.model_files import Bag, read_bag


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def weights(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"weights")
    return folder


def bag(folder: Path, text: str) -> Path:
    path = folder / "bag.yaml"
    path.write_text(text)
    return path


def test_it_needs_neither_torch_nor_numpy_nor_demucs() -> None:
    program = (
        "import sys; from demucs_server_worker.separation.catalogue import list_models; list_models(None); "
        "print(sorted({'torch', 'numpy', 'demucs', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_names_are_those_that_demucs_publishes() -> None:
    published = {"htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx", "mdx_extra", "mdx_q", "mdx_extra_q"}
    assert published < set(DEMUCS_MODELS)


def test_without_a_repository_demo_comes_first_and_then_what_demucs_publishes() -> None:
    models = list_models(None)
    assert [model.name for model in models] == ["demo", *DEMUCS_MODELS]
    by_name = {model.name: model for model in models}
    fine_tuned = by_name["htdemucs_ft"]
    assert (fine_tuned.source, fine_tuned.members, fine_tuned.on_disk, fine_tuned.bytes) == ("hub", 4, False, None)
    assert by_name["htdemucs_6s"].stems == ("drums", "bass", "other", "vocals", "guitar", "piano")
    assert "diffq" in by_name["mdx_q"].note


def test_a_model_on_the_hub_is_located_with_demucs_own_definition() -> None:
    files = locate("htdemucs_ft", None)
    assert files.bag is not None
    assert files.bag.signatures == ("f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d")
    assert files.bag.weights == ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    assert not files.on_disk


def test_a_model_of_a_stranger_is_located_with_nothing_known() -> None:
    files = locate("hf://someone/theirs", None)
    assert (files.source, files.bag, files.members, files.on_disk) == ("hub", None, (), False)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("htdemucs", "adefossez/HTDemucs"),
        ("htdemucs_ft", "adefossez/HTDemucs-ft"),
        ("mdx_extra_q", "adefossez/Demucs-mdx_extra_q"),
        ("hf://mdx", "adefossez/Demucs-mdx"),
        ("hf://someone/htdemucs_6s", "someone/HTDemucs-6s"),
        ("someone/own", "someone/Demucs-own"),
    ],
)
def test_the_repository_of_a_name(name: str, repository: str) -> None:
    assert hub.repository_of(name)[0] == repository


@pytest.mark.parametrize("name", ["hf://", "hf://a/b/c", "hf://../x", "hf://a/..", "a/"])
def test_a_name_that_cannot_be_on_the_hub_is_unknown(name: str) -> None:
    with pytest.raises(UnknownModel):
        locate(name, None)


@pytest.mark.parametrize(("typed", "meant"), [("htdemucs_tf", "htdemucs_ft"), ("mdx_ekstra", "mdx_extra")])
def test_a_misspelt_name_gets_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UnknownModel, match=f"the nearest is {meant}"):
        locate(typed, None)


def test_a_strange_name_gets_no_hint() -> None:
    with pytest.raises(UnknownModel) as caught:
        locate("zzzzzz", None)
    assert "nearest" not in caught.value.message


# --- a local repository ----------------------------------------------------------------------------------------------


def test_a_bag_in_a_repository(tmp_path: Path) -> None:
    weights(tmp_path, "aa.safetensors", "bb-0123abcd.th")
    bag(tmp_path, "models: [aa, bb, aa]\nweights: [[1, 0], [0, 1], [1, 1]]\nsegment: 44\n")
    files = locate("bag", tmp_path)
    assert files.bag == Bag(("aa", "bb", "aa"), ((1, 0), (0, 1), (1, 1)), 44)
    assert [(member.path and member.path.name, member.checksum) for member in files.members] == [
        ("aa.safetensors", None),
        ("bb-0123abcd.th", "0123abcd"),
        ("aa.safetensors", None),
    ]
    assert files.on_disk


def test_a_signature_in_a_repository(tmp_path: Path) -> None:
    files = locate("my-own", weights(tmp_path, "my-own-0123abcd.safetensors"))
    assert files.bag == Bag(("my-own",))
    assert files.members[0].checksum == "0123abcd"


def test_a_name_that_is_both_is_the_signature_as_with_demucs(tmp_path: Path) -> None:
    bag(weights(tmp_path, "bag.th", "aa.th"), "models: [aa, aa]")
    assert locate("bag", tmp_path).bag == Bag(("bag",))


def test_of_both_forms_the_one_without_code_is_taken(tmp_path: Path) -> None:
    files = locate("aa", weights(tmp_path, "aa.th", "aa.safetensors"))
    assert [member.path for member in files.members] == [tmp_path / "aa.safetensors"]


def test_a_repository_has_its_own_names_only(tmp_path: Path) -> None:
    bag(weights(tmp_path, "aa.th"), "models: [aa]")
    with pytest.raises(UnknownModel):
        locate("htdemucs", tmp_path)
    with pytest.raises(UnknownModel, match="the nearest is bag"):
        locate("bags", tmp_path)


def test_a_name_does_not_lead_out_of_the_repository(tmp_path: Path) -> None:
    weights(tmp_path, "outside.th")
    inside = tmp_path / "inside"
    inside.mkdir()
    bag(inside, "models: ['../outside']")
    with pytest.raises(UnknownModel):
        locate("../outside", inside)
    with pytest.raises(ModelCorrupt):
        locate("bag", inside)


def test_a_list_shows_bags_and_signatures_that_are_in_none(tmp_path: Path) -> None:
    bag(weights(tmp_path, "aa.th", "alone.th"), "models: [aa, gone]")
    models = {model.name: model for model in list_models(tmp_path)}
    assert list(models) == ["demo", "bag", "alone"]
    assert (models["bag"].on_disk, models["bag"].bytes, models["bag"].note) == (False, 7, "no file for gone")
    assert (models["alone"].on_disk, models["alone"].source, models["alone"].stems) == (True, "repo", None)


def test_a_list_shows_what_is_wrong_with_a_model(tmp_path: Path) -> None:
    bag(tmp_path, "models: []")
    broken = list_models(tmp_path)[1]
    assert (broken.name, broken.on_disk) == ("bag", False)
    assert "no list `models`" in broken.note


def test_a_repository_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", bag(tmp_path, "models: [aa]")):
        with pytest.raises(InvalidOption, match="folder of models"):
            locate("bag", path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "{",
        "models: aa",
        "models: []",
        "models: [12345678]",
        "models: ['a/b']",
        "models: ['.hidden']",
        "models: [aa]\nweights: [[1], [1]]",
        "models: [aa, bb]\nweights: [[1, 1], [1]]",
        "models: [aa]\nweights: [[yes]]",
        "models: [aa]\nweights: [[.nan]]",
        "models: [aa]\nweights: 1",
        "models: [aa]\nsegment: 0",
        "models: [aa]\nsegment: long",
        "models: [aa]\nx: !!python/object/apply:os.getcwd []",
    ],
)
def test_a_bag_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelCorrupt, match=r"bag\.yaml"):
        read_bag("bag", bag(tmp_path, text))
