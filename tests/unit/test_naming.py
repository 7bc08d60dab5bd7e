"""Names that come from users end up as safe paths inside the output folder."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.options import DEFAULT_FILENAME
from demucs_server_worker.separation.naming import MAX_PART_BYTES, safe_part, stem_path, track_name


def path_of(template: str = DEFAULT_FILENAME, **fields: str | None) -> str:
    given_fields = {"project": None, "track": "song", "trackext": "mp3", "stem": "vocals", "ext": "wav", "model": "m"}
    return stem_path(template, **{**given_fields, **fields})  # type: ignore[arg-type]


def assert_safe(part: str) -> None:
    assert part
    assert part not in (".", "..")
    assert len(part.encode()) <= MAX_PART_BYTES <= 255
    assert not set(part) & set('<>:"/\\|?*\0\n\r\t')
    assert part[0] not in ". -"
    assert part[-1] not in ". "
    assert unicodedata.is_normalized("NFC", part)
    assert all(unicodedata.category(char) != "Cc" for char in part)


@given(st.text(max_size=400))
def test_any_text_becomes_one_safe_part(text: str) -> None:
    part = safe_part(text)
    assert_safe(part)
    assert safe_part(part) == part


awkward = st.text(alphabet=st.sampled_from(list("./\\ -~con0nul:\n\0\u0301\u200d\u202eéЖ歌🎵")), max_size=300)


@given(project=st.none() | awkward, track=awkward, ext=awkward, model=awkward)
def test_a_path_stays_inside_the_folder_and_keeps_its_extension(
    project: str | None, track: str, ext: str, model: str
) -> None:
    template = "{model}/{project}/{track}.{trackext}/{stem}.{ext}"
    path = stem_path(template, project=project, track=track, trackext=ext, stem="vocals", ext="flac", model=model)
    assert not PurePosixPath(path).is_absolute()
    assert path.endswith("/vocals.flac")
    for part in path.split("/"):
        assert_safe(part)


@given(awkward)
def test_a_long_name_is_cut_before_its_extension(track: str) -> None:
    path = stem_path(
        "{track} {stem}.{ext}", project=None, track=track * 5, trackext="", stem="bass", ext="mp3", model="m"
    )
    assert path.endswith(".mp3")
    assert_safe(path)


def test_the_default_template_drops_the_project_when_there_is_none() -> None:
    assert path_of() == "song/vocals.wav"
    assert path_of(project="My Project") == "My Project/song/vocals.wav"
    assert path_of(project="  ") == "song/vocals.wav"


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ("Für Elise – 第一", "Für Elise – 第一"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "_"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("a\nb", "a b"),
        ("AC/DC", "AC_DC"),
        ('say "hi" <now>?', "say _hi_ _now__"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("COM1", "_COM1"),
        ("console", "console"),
        ("dots...", "dots"),
        ("e\u0301", "é"),
        ("gpj.\u202e3pm", "gpj.3pm"),
        ("x" * 300, "x" * MAX_PART_BYTES),
        ("歌" * 100, "歌" * (MAX_PART_BYTES // 3)),
    ],
)
def test_awkward_tracks(track: str, expected: str) -> None:
    assert path_of("{track}/{stem}.{ext}", track=track) == f"{expected}/vocals.wav"


def test_a_value_with_a_slash_makes_no_folder() -> None:
    assert path_of("{model}/{stem}.{ext}", model="hf://name/space").count("/") == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("song.mp3", ("song", "mp3")),
        ("/music/a b.FLAC", ("a b", "FLAC")),
        ("C:\\music\\a.wav", ("a", "wav")),
        ("Mr. Brightside", ("Mr. Brightside", "")),
        ("archive.tar.gz", ("archive.tar", "gz")),
        (".mp3", (".mp3", "")),
        ("noext", ("noext", "")),
        ("folder/", ("folder", "")),
    ],
)
def test_track_name(name: str, expected: tuple[str, str]) -> None:
    assert track_name(name) == expected
