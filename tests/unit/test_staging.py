"""The staging folder, the paths of what is written into it, and the manifest that describes them."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demucs_server_worker.errors import DiskFull, OutputNotWritable
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.job import StemFile
from demucs_server_worker.separation.manifest import sha256_of, write_manifest
from demucs_server_worker.separation.staging import Layout, layout, staged

NOBODY = 65_534


def laid_out(filename: str, input_name: str = "My Song.mp3", project: str | None = "P") -> Layout:
    options = SeparationOptions(filename=filename, model="hf://a/b")
    return layout(["drums", "no_drums"], options, input_name=input_name, project=project, ext="flac")


@pytest.mark.parametrize(
    ("filename", "first", "manifest"),
    [
        ("{project}/{track}/{stem}.{ext}", "P/My Song/drums.flac", "P/My Song/manifest.json"),
        ("{model}/{track}.{trackext}/{stem}.{ext}", "hf___a_b/My Song.mp3/drums.flac",
         "hf___a_b/My Song.mp3/manifest.json"),
        ("{project}/{track}-{stem}.{ext}", "P/My Song-drums.flac", "P/My Song.manifest.json"),
        ("{stem}.{ext}", "drums.flac", "My Song.manifest.json"),
        ("{stem}/{track}.{ext}", "drums/My Song.flac", "My Song.manifest.json"),
        ("{stem}/{track}/{project}.{ext}", "drums/My Song/P.flac", "My Song.manifest.json"),
        ("{track}/{stem}/{project}.{ext}", "My Song/drums/P.flac", "My Song/manifest.json"),
    ],
)  # fmt: skip
def test_where_stems_and_manifest_go(filename: str, first: str, manifest: str) -> None:
    paths = laid_out(filename)
    assert (paths.stems[0], paths.manifest) == (first, manifest)
    assert paths.stems[1] == first.replace("drums", "no_drums")


def test_without_a_project_its_part_drops_out_for_the_manifest_too() -> None:
    paths = laid_out("{project}/{track}/{stem}.{ext}", project=None)
    assert paths == Layout(("My Song/drums.flac", "My Song/no_drums.flac"), "My Song/manifest.json")


def test_songs_that_share_a_folder_have_manifests_of_their_own() -> None:
    songs = [laid_out("all/{track} {stem}.{ext}", name) for name in ("a.mp3", "b.mp3")]
    assert songs[0].manifest != songs[1].manifest


def test_the_manifest_finds_its_stems_from_where_it_stands(tmp_path: Path) -> None:
    stem = StemFile("drums", "P/My Song/x/drums.flac", "flac", 44_100, 2, 1.0, 10, "00", 0.5)
    path = tmp_path / "P" / "My Song" / "manifest.json"
    path.parent.mkdir(parents=True)
    options = SeparationOptions(shifts=2, stems=("drums",))
    write_manifest(
        path, root=tmp_path, options=options, model={"name": "m"}, source={"name": "ü.mp3"}, stems=[stem],
        gain=0.9, residual_db=-50.1234,
    )  # fmt: skip
    content = json.loads(path.read_text("utf-8"))
    assert content["stems"][0]["path"] == "x/drums.flac"
    assert (content["gain"], content["residual_db"], content["source"]["name"]) == (0.9, -50.12, "ü.mp3")
    assert content["options"]["shifts"] == 2 and content["options"]["stems"] == ["drums"]
    assert set(content["options"]) == set(SeparationOptions.__struct_fields__)


def test_a_manifest_takes_no_others_place(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_manifest(
            tmp_path / "manifest.json", root=tmp_path, options=SeparationOptions(), model={}, source={}, stems=[],
            gain=1.0, residual_db=None,
        )  # fmt: skip
    assert not (tmp_path / "elsewhere").exists()


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "a") == expected
    with (tmp_path / "a").open("rb", buffering=0) as file:
        assert sha256_of(file) == expected


# --- the folder -------------------------------------------------------------------------------------------------------


def test_the_folders_are_made_and_stay(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    with staged(output / ".s", output):
        assert list((output / ".s").iterdir()) == []
    assert (output / ".s").is_dir()


def test_an_error_takes_the_staging_folder_with_it(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / ".s", tmp_path):
        (tmp_path / ".s" / "P").mkdir()
        (tmp_path / ".s" / "P" / "half.wav").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_staging_folder_that_exists_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / ".s").mkdir()
    (tmp_path / ".s" / "theirs").touch()
    with pytest.raises(OutputNotWritable, match="file exists"), staged(tmp_path / ".s", tmp_path):
        pytest.fail("it was taken")
    assert (tmp_path / ".s" / "theirs").exists()


def test_a_file_in_the_output_folders_place(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with (
        pytest.raises(OutputNotWritable, match="out cannot be written"),
        staged(tmp_path / "out" / ".s", tmp_path / "out"),
    ):
        pytest.fail("there is nowhere to write")


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder that may be read only, also by whoever runs the tests: root is nobody for the while."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o555)  # noqa: S103 (nobody must be able to look into it)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


def test_a_folder_that_may_only_be_read() -> None:
    with unprivileged() as folder:
        with pytest.raises(OutputNotWritable, match="permission denied"), staged(folder / ".s", folder):
            pytest.fail("it may not be written")
        with pytest.raises(OutputNotWritable, match="permission denied"), staged(folder / "new" / ".s", folder / "new"):
            pytest.fail("it may not be written")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_inside_the_block(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFull), staged(tmp_path / ".s", tmp_path):
        raise OSError(number, os.strerror(number))
    assert not (tmp_path / ".s").exists()
