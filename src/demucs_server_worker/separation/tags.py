"""What a song says about itself: read from the source, carried to the stems."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields

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
