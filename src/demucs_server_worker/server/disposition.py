"""The name of a form's part and of the file in it, as the many clients write them. Pure.

RFC 7578 wants names in UTF-8 as they are; browsers write a quote as `%22` and a line's end as `%0D%0A`
(WHATWG HTML, "multipart/form-data encoding algorithm"); others escape quotes by backslashes or send `filename*`
(RFC 5987), which counts more where both are given.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

LONGEST_NAME = 255
"""Characters kept of a file's name."""

_PARAMETER = re.compile(r';\s*([A-Za-z0-9_.-]+\*?)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;"]*))')
_ESCAPED = re.compile(r'\\(["\\])')
_BY_BROWSERS = {"%22": '"', "%0D": " ", "%0A": " "}
_LAST_PART = re.compile(r"[^/\\]*$")
_EXTENDED = re.compile(r"([A-Za-z0-9-]+)'[^']*'(.*)")
# They turn the direction of text around, so that a name can read as another.
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


@dataclass(frozen=True)
class Disposition:
    """What a part says of itself.

    Attributes:
        name: the field's name; None where it has none.
        filename: the file's name as given; None where the part is no file.
    """

    name: str | None
    filename: str | None


def parse_disposition(header: bytes) -> Disposition:
    """Read a part's Content-Disposition."""
    parameters: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(_text(header)):
        parameters.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) if quoted else plain.strip())
    filename = parameters.get("filename")
    if filename is not None:
        for written, meant in _BY_BROWSERS.items():
            filename = re.sub(written, meant, filename, flags=re.IGNORECASE)
    return Disposition(name=parameters.get("name"), filename=_extended(parameters.get("filename*")) or filename)


def display_name(filename: str | None) -> str | None:
    """The file's own name for people: one line, with no folders and nothing invisible; None where nothing is left.

    It is text, not a path: no file of the server is ever called so.
    """
    last = _LAST_PART.search(filename or "")
    spaced = "".join(" " if char.isspace() else char for char in (last[0] if last else ""))
    visible = "".join(char for char in spaced if char not in _DIRECTIONS and not _is_control(char))
    name = " ".join(visible.split())[-LONGEST_NAME:].strip()
    return name if name.strip(".") else None


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Cn", "Co")


def _extended(value: str | None) -> str | None:
    """The text of `UTF-8''na%C3%AFve`; None where it is not that."""
    match = _EXTENDED.fullmatch(value or "")
    if match is None or match[1].lower() not in ("utf-8", "iso-8859-1", "us-ascii"):
        return None
    return unquote_to_bytes(match[2]).decode(match[1], "replace")


def _text(header: bytes) -> str:
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError:
        return header.decode("latin-1")
