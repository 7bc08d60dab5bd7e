"""Conditions and ranges of a request for a file (RFC 9110, sections 8.8, 13 and 14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True)
class Part:
    """Bytes `start` to `stop`, which is not among them."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many they are."""
        return self.stop - self.start


class Unsatisfiable(Exception):
    """The range lies past the end of the file."""


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has this version already. Args: etag: strong, in quotes; if_none_match: the header."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def wanted_part(size: int, etag: str, range_header: str | None, if_range: str | None) -> Part | None:
    """The part of a file that a request wants; None for all of it.

    All of it is also the answer to what a server may ignore: several ranges at once, other units, what is no range,
    and a range of another version than this (`If-Range`).

    Args:
        size: of the file, in bytes.
        etag: of the file, strong, in quotes.
        range_header, if_range: the headers.

    Raises:
        Unsatisfiable: no byte of the file is in the range.
    """
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return None
    match = _RANGE.fullmatch(range_header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if length == 0:
            raise Unsatisfiable
        return Part(size - length, size)
    start, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and last < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return Part(start, min(last + 1, size))
