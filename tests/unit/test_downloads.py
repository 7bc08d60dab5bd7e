"""Names of downloads: safe in a header and on a disk, and the song's own where that can be."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.server.downloads import archive_name, attachment, stem_name

HEADER = re.compile(r"attachment; filename=\"([A-Za-z0-9 ()._-]+)\"; filename\*=UTF-8''([A-Za-z0-9%!#$&+\-.^_`|~]+)")


@pytest.mark.parametrize(
    ("song", "name", "fallback"),
    [
        ("song.mp3", "song - vocals.wav", "song - vocals.wav"),
        ("Für Elise.flac", "Für Elise - vocals.wav", "Fur Elise - vocals.wav"),
        ("вокал.mp3", "вокал - vocals.wav", "- vocals.wav"),
        ('a"b\\c.mp3', "c - vocals.wav", "c - vocals.wav"),
        ("../../etc/passwd", "passwd - vocals.wav", "passwd - vocals.wav"),
        ("a\r\nSet-Cookie: x=1.mp3", None, None),
    ],
)
def test_a_stem_is_called_after_its_song(song: str, name: str | None, fallback: str | None) -> None:
    made = stem_name(song, "vocals", "wav")
    match = HEADER.fullmatch(attachment(made))
    assert match is not None
    assert unquote(match[2]) == made
    if name is not None:
        assert (made, match[1]) == (name, fallback)


@given(song=st.text(max_size=300), stem=st.text(min_size=1, max_size=40))
def test_no_name_breaks_out_of_the_header(song: str, stem: str) -> None:
    header = attachment(stem_name(song, stem, "flac"))
    match = HEADER.fullmatch(header)
    assert match is not None, header
    header.encode("ascii")
    name = unquote(match[2])
    assert name.endswith(".flac")
    assert "/" not in name
    assert len(name.encode()) <= 255


def test_the_archive_likewise() -> None:
    assert archive_name("song.mp3") == "song - stems.zip"
