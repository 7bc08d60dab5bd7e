"""Tags travel from song to stems, change no sample, and are never trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from demucs_server_worker.errors import OutputNotWritable
from demucs_server_worker.options import AudioFormat, SeparationOptions
from demucs_server_worker.separation.decode import open_source
from demucs_server_worker.separation.encode import open_writer, output_rate
from demucs_server_worker.separation.tags import MAX_COVER_BYTES, MAX_TEXT, Tags, clean_text, read_tags, write_tags
from tests.audio_files import tones

FORMATS: tuple[AudioFormat, ...] = ("wav", "flac", "mp3", "m4a", "ogg", "opus")
PNG = b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(100_000)
JPEG = b"\xff\xd8\xff\xe0" + np.random.default_rng(1).bytes(100)
FULL = Tags(
    title="Söng", artist="A & B", album="Альбом", album_artist="Various", date="1999-02-03", genre="Rock",
    track="3/12", composer="Someone", comment="first take", cover=PNG, cover_mime="image/png",
)  # fmt: skip


def stem(folder: Path, format: AudioFormat) -> Path:
    path, rate = folder / f"stem.{format}", output_rate(format, 44100)
    with open_writer(path, SeparationOptions(format=format), rate, 20_001) as writer:
        writer.write(tones(20_001, rate))
    return path


def read(path: Path) -> tuple[NDArray[np.float32], Tags]:
    with open_source(path, "stem") as source:
        return np.concatenate(list(source.blocks()), axis=1), source.tags


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_every_tag_and_its_sound_stays(tmp_path: Path, format: AudioFormat) -> None:
    path = stem(tmp_path, format)
    before, none = read(path)
    write_tags(path, format, FULL, stem="vocals")
    after, tags = read(path)
    assert not none
    assert tags == replace(FULL, title="Söng (vocals)")
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("format", FORMATS)
def test_a_song_without_tags_leaves_the_stem_as_it_is(tmp_path: Path, format: AudioFormat) -> None:
    path = stem(tmp_path, format)
    before = path.read_bytes()
    write_tags(path, format, Tags(), stem="vocals")
    assert path.read_bytes() == before


@pytest.mark.parametrize("format", FORMATS)
def test_no_title_is_invented_and_odd_dates_and_tracks_do_no_harm(tmp_path: Path, format: AudioFormat) -> None:
    path = stem(tmp_path, format)
    write_tags(path, format, Tags(artist="A", date="in the old days", track="side B", cover=JPEG,
                                  cover_mime="image/jpeg"), stem="bass")  # fmt: skip
    _, tags = read(path)
    assert tags.title is None
    assert tags.artist == "A"
    assert tags.cover_mime == "image/jpeg"
    assert tags.date in (None, "in the old days")


def test_a_link_in_place_of_the_stem_is_not_followed(tmp_path: Path) -> None:
    real = stem(tmp_path, "flac")
    before = real.read_bytes()
    (tmp_path / "link.flac").symlink_to(real)
    with pytest.raises(OutputNotWritable):
        write_tags(tmp_path / "link.flac", "flac", FULL, stem="vocals")
    assert real.read_bytes() == before


def test_a_stem_that_is_not_what_it_should_be_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "stem.flac"
    path.write_bytes(b"not flac at all" * 10)
    with pytest.raises(OutputNotWritable, match=r"stem\.flac"):
        write_tags(path, "flac", FULL, stem="vocals")


@given(st.text(max_size=2000))
def test_text_is_one_clean_line(text: str) -> None:
    clean = clean_text(text)
    assert len(clean) <= MAX_TEXT
    assert clean.isprintable() or all(char.isprintable() or char.isspace() or ord(char) > 127 for char in clean)
    assert not set(clean) & {"\n", "\r", "\0", "\t", "\x1b"}
    assert clean == clean.strip()


def test_keys_of_other_containers_are_understood() -> None:
    tags = read_tags({"TITLE": " A ", "ALBUMARTIST": "B", "year": "2001", "TRACKNUMBER": "4", "encoder": "Lavf"})
    assert tags == Tags(title="A", album_artist="B", date="2001", track="4")


@pytest.mark.parametrize(
    ("cover", "mime"),
    [(PNG, "image/png"), (JPEG, "image/jpeg"), (b"<svg/>", None), (b"GIF89a", None), (b"", None),
     (PNG + bytes(MAX_COVER_BYTES), None)],
)  # fmt: skip
def test_only_small_pictures_of_known_kinds_are_covers(cover: bytes, mime: str | None) -> None:
    tags = read_tags({}, cover)
    assert tags.cover_mime == mime
    assert tags.cover == (cover if mime else None)
