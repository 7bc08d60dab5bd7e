"""Words and figures for people, and names that cannot act on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from demucs_server_worker.cli import words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Für Elise (live) [bold].mp3", "Für Elise (live) [bold].mp3"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("two\nlines", r"two\nlines"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff.mp3", r"\udcff.mp3"),
        ("👩\u200d🎤", "👩\u200d🎤"),
    ],
)
def test_a_name_is_shown_with_what_a_terminal_would_act_upon_escaped(text: str, shown: str) -> None:
    assert words.printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "0:00"), (59.6, "1:00"), (192.0, "3:12"), (3723.0, "1:02:03"), (-1.0, "0:00")]
)
def test_a_length_reads_as_on_a_player(seconds: float, shown: str) -> None:
    assert words.clock(seconds) == shown


def test_what_something_took_has_tenths_while_they_matter() -> None:
    assert words.taken(8.34) == "8.3 s"
    assert words.taken(119.94) == "119.9 s"
    assert words.taken(192.0) == "3:12"


def test_the_pace_is_audio_over_time_and_a_dash_where_it_cannot_be_told() -> None:
    assert words.pace(30.0, 10.0) == "3.0×"
    assert words.pace(None, 10.0) == words.pace(30.0, 0.0) == words.pace(30.0, None) == "–"


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "–"), (0, "0 B"), (999, "999 B"), (2_214_568, "2.2 MB"), (3_000_000_000, "3.0 GB")]
)
def test_a_size_has_a_unit(count: int | None, shown: str) -> None:
    assert words.size(count) == shown


def test_one_file_is_not_one_files() -> None:
    assert (words.files(0), words.files(1), words.files(2)) == ("0 files", "1 file", "2 files")


def test_a_path_below_the_current_folder_is_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert words.near(tmp_path / "out" / "song") == "out/song"
    assert words.near(Path("/elsewhere/song")) == "/elsewhere/song"
