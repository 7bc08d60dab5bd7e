"""How downloads are called and what they are, for a header that says so. Pure."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

from demucs_server_worker.separation.naming import safe_part, track_name

MEDIA_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "ogg": "audio/ogg",
    "opus": "audio/ogg; codecs=opus",  # RFC 7845, section 9
    "zip": "application/zip",
}

# What RFC 5987 allows to stand for itself, beside letters and digits.
_PLAIN = "!#$&+-.^_`|~"


def stem_name(input_name: str, stem: str, extension: str) -> str:
    """`{track} - {stem}.{ext}`, safe as the name of a file on any system."""
    return safe_part(f"{track_name(input_name)[0]} - {stem}") + f".{extension}"


def archive_name(input_name: str) -> str:
    """`{track} - stems.zip`, likewise."""
    return stem_name(input_name, "stems", "zip")


def attachment(name: str) -> str:
    """The header `Content-Disposition` for a file to be saved as `name`: RFC 6266, for old readers in ASCII too."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    fallback = "".join(char if char.isalnum() or char in " ()-._" else "_" for char in ascii_name).strip()
    if not fallback.rpartition(".")[0].strip(" -_"):
        fallback = "stem" + fallback[fallback.rfind(".") :] if "." in fallback else "stem"
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe=_PLAIN)}"
