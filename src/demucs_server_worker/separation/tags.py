"""What a song says about itself: read from the source, carried to the stems."""

# mutagen has types for what it returns, and none for most of its functions.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import re
import unicodedata
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from mutagen import FileType, MutagenError, id3
from mutagen.flac import FLAC, Picture
from mutagen.id3 import PictureType
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from demucs_server_worker.options import AudioFormat
from demucs_server_worker.separation.outfiles import open_file, output_error

MAX_TEXT = 500
"""Characters kept of one tag."""

MAX_COVER_BYTES = 5_000_000

_TEXT_FIELDS = ("title", "artist", "album", "album_artist", "date", "genre", "track", "composer", "comment")
# FFmpeg's generic keys differ between containers; the first that has a value wins.
_ALIASES = {
    "album_artist": ("album_artist", "albumartist", "album artist"),
    "date": ("date", "year", "creation_date"),
    "track": ("track", "tracknumber"),
    "comment": ("comment", "description"),
}

_COMMENT_KEYS = {"album_artist": "albumartist", "track": "tracknumber"}
_ID3_FRAMES = {
    "title": id3.TIT2,
    "artist": id3.TPE1,
    "album": id3.TALB,
    "album_artist": id3.TPE2,
    "date": id3.TDRC,
    "genre": id3.TCON,
    "track": id3.TRCK,
    "composer": id3.TCOM,
}
_MP4_ATOMS = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "album": "\xa9alb",
    "album_artist": "aART",
    "date": "\xa9day",
    "genre": "\xa9gen",
    "composer": "\xa9wrt",
    "comment": "\xa9cmt",
}
# ID3's date is a timestamp, MP4's track a pair of 16-bit numbers; other text has no place there.
_ID3_DATE = re.compile(r"[0-9]{4}(?:-[0-9]{2}){0,2}(?![0-9])")
_TRACK = re.compile(r"([0-9]{1,4})(?:/([0-9]{1,4}))?")


@dataclass(frozen=True)
class Tags:
    """Tags as text, each None where the source has none; the cover as an encoded picture.

    Attributes:
        cover: bytes of a JPEG or PNG, at most 5 MB.
        cover_mime: `image/jpeg` or `image/png`.
    """

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    album_artist: str | None = None
    date: str | None = None
    genre: str | None = None
    track: str | None = None
    composer: str | None = None
    comment: str | None = None
    cover: bytes | None = None
    cover_mime: str | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to carry."""
        return any(getattr(self, field.name) is not None for field in fields(self))


def read_tags(metadata: Mapping[str, str], cover: bytes | None = None) -> Tags:
    """Tags from what a container and its audio stream declare. Nothing in it is trusted.

    Args:
        metadata: FFmpeg's key-value pairs, keys in any case.
        cover: an attached picture, if there is one.
    """
    lower = {key.lower(): value for key, value in metadata.items()}
    found = {name: _first(lower, _ALIASES.get(name, (name,))) for name in _TEXT_FIELDS}
    mime = cover_mime(cover)
    return Tags(**found, cover=cover if mime else None, cover_mime=mime)


def cover_mime(cover: bytes | None) -> str | None:
    """The type of a picture by its first bytes: JPEG or PNG of at most 5 MB, or None."""
    if not cover or len(cover) > MAX_COVER_BYTES:
        return None
    if cover.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if cover.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return None


def _first(metadata: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    return next((text for key in keys if (text := clean_text(metadata.get(key, "")))), None)


def clean_text(text: str) -> str:
    """One line of at most 500 characters, without control characters and the like."""
    spaced = "".join(" " if char.isspace() else char for char in text)
    visible = "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cs", "Cn", "Co"))
    return " ".join(visible.split())[:MAX_TEXT].strip()


def write_tags(path: Path, format: AudioFormat, tags: Tags, *, stem: str) -> None:
    """Add `tags` to a finished stem; its sound stays as it is. A song without tags leaves the stem without.

    A WAV past 4 GiB (RF64) stays without tags.

    Args:
        path: the stem's file; a link is not followed.
        format: what it is.
        tags: the song's; the title gets the stem's name behind it, as in `Song (vocals)`.
        stem: the stem's name.

    Raises:
        DiskFull, OutputNotWritable: see there.
    """
    if not tags:
        return
    texts = {name: text for name in _TEXT_FIELDS if (text := getattr(tags, name)) is not None}
    if tags.title is not None:
        texts["title"] = f"{tags.title} ({stem})"
    with os.fdopen(open_file(path), "r+b") as file:
        try:
            _write(file, format, texts, _picture(tags))
            os.fsync(file.fileno())
        except OSError as error:
            raise output_error(path, error) from error
        except MutagenError as error:
            # mutagen wraps the system's error and keeps it as an argument or as the context.
            causes = (*error.args, error.__cause__, error.__context__)
            raise output_error(path, next((each for each in causes if isinstance(each, OSError)), error)) from error


def _write(file: BinaryIO, format: AudioFormat, texts: dict[str, str], picture: Picture | None) -> None:
    match format:
        case "wav":
            if file.read(4) == b"RIFF":
                file.seek(0)
                _write_id3(WAVE(file), file, texts, picture)
        case "mp3":
            _write_id3(MP3(file), file, texts, picture)
        case "m4a":
            _write_mp4(MP4(file), file, texts, picture)
        case "flac":
            flac = FLAC(file)
            _fill_comments(flac, texts)
            if picture is not None:
                flac.add_picture(picture)
            _save(flac, file)
        case "ogg" | "opus":
            ogg = OggVorbis(file) if format == "ogg" else OggOpus(file)
            _fill_comments(ogg, texts)
            if picture is not None:
                ogg["metadata_block_picture"] = [b64encode(picture.write()).decode("ascii")]
            _save(ogg, file)


def _picture(tags: Tags) -> Picture | None:
    """The cover as FLAC's picture block, of which the other formats take the parts."""
    if tags.cover is None:
        return None
    picture = Picture()
    picture.data, picture.mime, picture.type = tags.cover, tags.cover_mime or "", PictureType.COVER_FRONT
    return picture


def _fill_comments(song: FileType, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        song[_COMMENT_KEYS.get(name, name)] = [text]


def _write_id3(song: WAVE | MP3, file: BinaryIO, texts: dict[str, str], picture: Picture | None) -> None:
    if song.tags is None:
        song.add_tags()
    frames: Any = song.tags
    for name, text in texts.items():
        if name == "comment":
            frames.add(id3.COMM(encoding=id3.Encoding.UTF8, lang="XXX", desc="", text=[text]))
        elif name != "date" or _ID3_DATE.match(text):
            frames.add(_ID3_FRAMES[name](encoding=id3.Encoding.UTF8, text=[text]))
    if picture is not None:
        frames.add(id3.APIC(id3.Encoding.UTF8, picture.mime, picture.type, "", picture.data))
    _save(song, file)


def _write_mp4(song: MP4, file: BinaryIO, texts: dict[str, str], picture: Picture | None) -> None:
    for name, text in texts.items():
        if name != "track":
            song[_MP4_ATOMS[name]] = [text]
        elif numbers := _TRACK.fullmatch(text):
            song["trkn"] = [(int(numbers[1]), int(numbers[2] or 0))]
    if picture is not None:
        kind = MP4Cover.FORMAT_JPEG if picture.mime == "image/jpeg" else MP4Cover.FORMAT_PNG
        song["covr"] = [MP4Cover(picture.data, kind)]
    _save(song, file)


def _save(song: FileType, file: BinaryIO) -> None:
    file.seek(0)
    song.save(file)
