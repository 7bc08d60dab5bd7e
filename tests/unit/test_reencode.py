"""A stem in another format is the same sound, with the same tags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from demucs_server_worker.errors import InputUnreadable
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.decode import open_source
from demucs_server_worker.separation.encode import open_writer
from demucs_server_worker.separation.manifest import sha256_of
from demucs_server_worker.separation.reencode import Reencoded, reencode
from demucs_server_worker.separation.tags import Tags, write_tags
from tests.audio_files import tones
from tests.separations import ratio_db, read

RATE = 44_100
TAGS = Tags(title="Song", artist="Singer", track="3/9")


def stem(folder: Path, rate: int = RATE, tags: Tags = TAGS, **options: Any) -> Path:
    wanted = SeparationOptions(**options)
    path = folder / f"vocals.{wanted.format}"
    with open_writer(path, wanted, rate, rate) as writer:
        writer.write(tones(rate, rate))
    write_tags(path, wanted.format, tags, stem="vocals")
    return path


def again(source: Path, name: str, **options: Any) -> tuple[Path, Reencoded]:
    target = source.parent / name
    return target, reencode(
        source, sha256_of(source), target, SeparationOptions(**options), stem="vocals", samples=RATE
    )


def tags_of(path: Path) -> Tags:
    with open_source(path, path.name) as source:
        return source.tags


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"format": "wav"}, {"format": "flac"}),
        ({"format": "flac"}, {"format": "wav"}),
        ({"format": "wav", "bit_depth": "24"}, {"format": "flac", "bit_depth": "24"}),
        ({"format": "wav"}, {"format": "wav", "bit_depth": "float32"}),
    ],
)
def test_lossless_formats_hold_the_same_samples(tmp_path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    source = stem(tmp_path, **old)
    target, made = again(source, f"again.{new['format']}", **new)
    np.testing.assert_array_equal(soundfile.read(target)[0], soundfile.read(source)[0])
    assert made == Reencoded(RATE, 2, 1.0, target.stat().st_size, sha256_of(target))


def test_float_samples_become_the_integers_that_a_separation_would_have_written(tmp_path: Path) -> None:
    direct = stem(tmp_path, format="flac")
    target, _ = again(stem(tmp_path, format="wav", bit_depth="float32"), "again.flac", format="flac")
    assert target.read_bytes() == direct.read_bytes()


@pytest.mark.parametrize("format", ["mp3", "m4a", "ogg", "opus"])
def test_a_lossy_format_sounds_alike_at_a_rate_that_it_has(tmp_path: Path, format: str) -> None:
    source = stem(tmp_path)
    target, made = again(source, f"again.{format}", format=format)
    assert made.sample_rate == (48_000 if format == "opus" else RATE)
    assert made.duration_seconds == 1.0
    if format != "opus":
        heard, original = read(target), read(source)
        assert heard.shape == original.shape
        assert ratio_db(original, heard - original) > 15


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "m4a", "ogg", "opus"])
@pytest.mark.parametrize("old", ["wav", "flac"])
def test_the_tags_are_those_of_the_stem(tmp_path: Path, old: str, format: str) -> None:
    source = stem(tmp_path, format=old)
    target, _ = again(source, f"again.{format}", format=format)
    assert tags_of(target) == tags_of(source)
    assert tags_of(target).title == "Song (vocals)"


def test_what_is_not_the_stem_that_was_written_is_not_encoded(tmp_path: Path) -> None:
    source = stem(tmp_path)
    sha256 = sha256_of(source)
    secret = tmp_path / "secret.wav"
    os.replace(source, secret)
    source.symlink_to(secret)
    with pytest.raises(InputUnreadable, match="a link"):
        reencode(source, sha256, tmp_path / "again.flac", SeparationOptions(format="flac"), stem="x", samples=1)
    assert not (tmp_path / "again.flac").exists()


def test_what_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    source = stem(tmp_path)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reencode(
            source, sha256_of(source), tmp_path / "again.mp3", SeparationOptions(format="mp3"), stem="vocals",
            samples=RATE, check=stop,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == [source]
