"""Files, folders and patterns become songs, and no two songs write to the same place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from demucs_server_worker.cli.exits import UsageError
from demucs_server_worker.cli.songs import Song, find_songs, tell_apart
from demucs_server_worker.options import DEFAULT_FILENAME
from demucs_server_worker.separation.naming import stem_path, track_name

OUT = Path("out").absolute()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*named: str, out: Path | None = None) -> list[tuple[str, str]]:
    """(path as shown, output folder below `out`) of each song."""
    out = out or Path("out").absolute()
    return [(song.shown, str(song.output_dir.relative_to(out))) for song in find_songs(named, out).songs]


def test_a_named_file_is_taken_whatever_its_ending_and_even_when_it_is_missing(here: Path) -> None:
    touch("odd.xyz")
    assert found("odd.xyz", "missing.mp3") == [("odd.xyz", "."), ("missing.mp3", ".")]


def test_a_folder_is_walked_to_its_ends_in_order_and_its_structure_kept(here: Path) -> None:
    touch("m/b/01.mp3", "m/a/01.mp3", "m/a/deep/02.FLAC", "m/top.wav", "m/cover.jpg", "m/.hidden.mp3", "m/.git/x.mp3")
    assert found("m") == [("m/top.wav", "."), ("m/a/01.mp3", "a"), ("m/a/deep/02.FLAC", "a/deep"), ("m/b/01.mp3", "b")]


def test_of_several_folders_each_has_its_name_on_top(here: Path) -> None:
    touch("x/one/01.mp3", "x/two/disc/01.mp3")
    assert found("x/one", "x/two/") == [("x/one/01.mp3", "one"), ("x/two/disc/01.mp3", "two/disc")]


def test_a_folder_named_twice_is_one_folder(here: Path) -> None:
    touch("m/01.mp3")
    assert found("m", "./m/", "m/01.mp3") == [("m/01.mp3", ".")]


def test_a_pattern_that_no_shell_expanded_is_expanded(here: Path) -> None:
    touch("b.mp3", "a.mp3", "c.ogg", "notes.txt", "deep/er/d.mp3")
    assert found("*.mp3") == [("a.mp3", "."), ("b.mp3", ".")]
    assert found("*.txt") == [("notes.txt", ".")]
    assert [shown for shown, _ in found("*")] == ["a.mp3", "b.mp3", "c.ogg", "deep/er/d.mp3"]
    assert [shown for shown, _ in found("**/*.mp3")] == ["a.mp3", "b.mp3", "deep/er/d.mp3"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(here: Path) -> None:
    touch("live [2020].mp3", "why?.mp3", "whyx.mp3")
    assert found("live [2020].mp3", "why?.mp3") == [("live [2020].mp3", "."), ("why?.mp3", ".")]


def test_a_missing_name_with_brackets_is_a_missing_file_and_not_an_empty_pattern(here: Path) -> None:
    assert find_songs(["live [2020].mp3"], OUT).empty == []
    assert found("live [2020].mp3") == [("live [2020].mp3", ".")]


def test_what_holds_no_song_is_named(here: Path) -> None:
    touch("texts/a.txt", "a.mp3")
    result = find_songs(["texts", "*.wav", "a.mp3"], OUT)
    assert [song.shown for song in result.songs] == ["a.mp3"]
    assert result.empty == ["texts", "*.wav"]


def test_the_output_folder_and_earlier_results_are_not_separated_again(here: Path) -> None:
    touch("m/song.mp3", "m/out/song/vocals.wav", "m/other/song/vocals.wav", "m/app/sound.wav")
    Path("m/other/song/manifest.json").write_text(json.dumps({"manifest": 1, "model": {}, "stems": []}))
    Path("m/app/manifest.json").write_text('{"name": "of an app"}')
    assert [shown for shown, _ in found("m", out=Path("m/out").absolute())] == ["m/song.mp3", "m/app/sound.wav"]


def test_a_link_to_a_folder_above_does_not_lead_in_circles(here: Path) -> None:
    touch("m/a.mp3")
    os.symlink("..", "m/up")
    assert found("m") == [("m/a.mp3", ".")]


# --- names told apart -------------------------------------------------------------------------------------------------


def song(name: str, output_dir: Path = OUT) -> Song:
    return Song(Path(name), name, output_dir, Path(name).name)


def names(*songs: Song, filename: str = DEFAULT_FILENAME, project: str | None = None) -> list[str]:
    apart = tell_apart(songs, filename=filename, project=project, ext="wav", model="demo")
    assert [(each.path, each.output_dir) for each in apart] == [(each.path, each.output_dir) for each in songs]
    return [each.input_name for each in apart]


def test_songs_that_would_share_a_folder_get_numbers() -> None:
    assert names(song("song.mp3"), song("song.wav"), song("b/song.flac"), song("other.mp3")) == [
        "song.mp3", "song (2).wav", "song (3).flac", "other.mp3",
    ]  # fmt: skip


def test_a_number_that_is_taken_is_passed_over_and_whoever_has_it_keeps_it() -> None:
    assert names(song("song.mp3"), song("song.wav"), song("song (2).ogg")) == [
        "song.mp3", "song (3).wav", "song (2).ogg",
    ]  # fmt: skip


def test_names_that_differ_in_case_or_in_what_is_made_safe_collide_too() -> None:
    assert names(song("Song.mp3"), song("song.mp3")) == ["Song.mp3", "song (2).mp3"]
    assert names(song("a:b.mp3"), song("a?b.mp3")) == ["a:b.mp3", "a?b (2).mp3"]


def test_another_folder_or_the_extension_in_the_template_is_apart_enough() -> None:
    assert names(song("song.mp3"), song("song.mp3", OUT / "b")) == ["song.mp3", "song.mp3"]
    template = "{track}.{trackext}/{stem}.{ext}"
    assert names(song("song.mp3"), song("song.wav"), filename=template) == ["song.mp3", "song.wav"]


def test_names_too_long_for_a_suffix_are_shortened() -> None:
    long = "é" * 120
    first, second = names(song(f"{long}.mp3"), song(f"{long}.wav"))
    assert first == f"{long}.mp3"
    paths = {
        stem_path(DEFAULT_FILENAME, project=None, track=track_name(name)[0], trackext="", stem="bass", ext="wav",
                  model="demo")
        for name in (first, second)
    }  # fmt: skip
    assert len(paths) == 2
    assert second.endswith(" (2).wav")


def test_a_name_that_is_not_utf8_can_be_numbered() -> None:
    assert names(song("\udcff.mp3"), song("\udcff.wav"))[1].endswith("(2).wav")


def test_a_template_without_the_track_is_refused_for_several_songs_only() -> None:
    assert names(song("a.mp3"), filename="{stem}.{ext}") == ["a.mp3"]
    with pytest.raises(UsageError, match=r"add \{track\}"):
        names(song("a.mp3"), song("b.mp3"), filename="{stem}.{ext}")
