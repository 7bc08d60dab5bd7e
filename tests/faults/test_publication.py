"""Publishing by rename: again after any crash, never through a link, and refused before anything is committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from demucs_server_worker.errors import OutputNotWritable
from demucs_server_worker.publication import STAGING_PREFIX, StagingJournal, prepare, publish, staging_path

FILES = ("Album/song/vocals.wav", "Album/song/manifest.json")


def staged(out: Path, files: tuple[str, ...] = FILES) -> Path:
    """A staging folder with these files, each with its name in it."""
    staging = staging_path(str(out), "task", 1)
    for file in files:
        (staging / file).parent.mkdir(parents=True, exist_ok=True)
        (staging / file).write_text(file)
    return staging


def test_files_move_to_their_place_and_the_staging_folder_goes(tmp_path: Path) -> None:
    staging = staged(tmp_path)
    publish(str(staging), str(tmp_path), FILES)
    assert [(tmp_path / file).read_text() for file in FILES] == list(FILES)
    assert not staging.exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_done_again_after_a_crash_it_completes_what_was_begun(tmp_path: Path, moved: int) -> None:
    staging = staged(tmp_path)
    for file in FILES[:moved]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (staging / file).rename(tmp_path / file)
    publish(str(staging), str(tmp_path), FILES)
    publish(str(staging), str(tmp_path), FILES)
    assert [(tmp_path / file).read_text() for file in FILES] == list(FILES)


def test_an_older_result_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "Album" / "song").mkdir(parents=True)
    (tmp_path / FILES[0]).write_text("older")
    publish(str(staged(tmp_path)), str(tmp_path), FILES)
    assert (tmp_path / FILES[0]).read_text() == FILES[0]


@pytest.mark.parametrize("link", ["Album", "Album/song"])
def test_a_link_in_the_way_is_never_followed(tmp_path: Path, link: str) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    staging = staged(out)
    elsewhere.mkdir()
    (out / link).parent.mkdir(parents=True, exist_ok=True)
    (out / link).symlink_to(elsewhere)
    with pytest.raises(OutputNotWritable, match="link"):
        prepare(str(out), FILES)
    with pytest.raises(OutputNotWritable, match="link"):
        publish(str(staging), str(out), FILES)
    assert list(elsewhere.iterdir()) == []


def test_a_link_at_the_files_own_place_is_replaced_not_written_through(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("keep")
    out = tmp_path / "out"
    staging = staged(out)
    (out / "Album" / "song").mkdir(parents=True)
    (out / FILES[0]).symlink_to(secret)
    publish(str(staging), str(out), FILES)
    assert secret.read_text() == "keep"
    assert (out / FILES[0]).read_text() == FILES[0]


def test_a_file_or_folder_in_the_way_is_told_before_the_commit(tmp_path: Path) -> None:
    (tmp_path / "Album").write_text("a file where a folder belongs")
    with pytest.raises(OutputNotWritable):
        prepare(str(tmp_path), FILES)
    (tmp_path / "Album").unlink()
    (tmp_path / FILES[0]).mkdir(parents=True)
    with pytest.raises(OutputNotWritable, match="a folder has this name"):
        prepare(str(tmp_path), FILES)


def test_the_journal_sweeps_what_was_left_and_nothing_else(tmp_path: Path) -> None:
    journal = StagingJournal(tmp_path / "notes")
    left, done, foreign = staged(tmp_path / "a"), staged(tmp_path / "b"), tmp_path / "photos"
    foreign.mkdir()
    journal.open("left", 1, left)
    journal.open("done", 1, done)
    journal.open("odd", 1, foreign)  # a damaged note must not cost somebody's folder
    journal.close("done", 1)
    assert StagingJournal(tmp_path / "notes").sweep() == [left]
    assert (left.exists(), done.exists(), foreign.exists()) == (False, True, True)
    assert left.name.startswith(STAGING_PREFIX)
    assert journal.sweep() == []
