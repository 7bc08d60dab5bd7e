"""`demucs-server-worker models`."""

from __future__ import annotations

from pathlib import Path

from tests.command import objects, run
from tests.model_repo import save_bag, tiny_demucs


def offline(tmp_path: Path) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}


def test_it_lists_the_bundled_model_and_those_of_demucs(tmp_path: Path) -> None:
    ran = run("models", "--json", cwd=tmp_path, **offline(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")
    models = {each["name"]: each for each in objects(ran.stdout)}
    assert {"demo", "htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx_extra"} <= models.keys()
    demo = models["demo"]
    assert (demo["source"], demo["onDisk"], demo["members"]) == ("package", True, 1)
    assert demo["stems"] == ["drums", "bass", "other", "vocals"]
    assert 0 < demo["bytes"] <= 3_000_000
    assert (models["htdemucs_ft"]["onDisk"], models["htdemucs_ft"]["members"]) == (False, 4)


def test_on_a_pipe_it_is_a_line_a_model(tmp_path: Path) -> None:
    ran = run("models", cwd=tmp_path, **offline(tmp_path))
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    assert rows[0][:3] == ["demo", "yes", "1"]
    assert ["htdemucs", "no", "1"] in [row[:3] for row in rows]


def test_a_folder_of_models_is_listed_by_flag_and_by_setting(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    save_bag(repo, "mine", {"aaaa1111": tiny_demucs()})
    for ran in (
        run("models", "--repo", str(repo), "--json", cwd=tmp_path),
        run("models", "--json", cwd=tmp_path, DEMUCS_WORKER_MODEL_REPO=str(repo)),
    ):
        models = {each["name"]: each for each in objects(ran.stdout)}
        assert models.keys() == {"demo", "mine"}
        assert (models["mine"]["source"], models["mine"]["onDisk"]) == ("repo", True)


def test_what_cannot_be_fetched_is_told_with_what_to_do(tmp_path: Path) -> None:
    ran = run("models", "--download", "htdemucs", cwd=tmp_path, **offline(tmp_path))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "The model htdemucs is not on this machine and could not be fetched" in ran.stderr


def test_the_bundled_model_needs_no_fetching(tmp_path: Path) -> None:
    ran = run("models", "--download", "demo", cwd=tmp_path, **offline(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("demo is on this machine: 1 file, ")
