"""Server-Sent Events, from bytes as they come. Pure.

The rules are those of the HTML standard, "Server-sent events": lines end with CR, LF or both, a blank line ends an
event, a line that begins with a colon says nothing. Comments are given too, because a server's heartbeats are comments,
and a reader with a deadline must come to its senses at each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A line, and how it ended; a CR at the end of what has come so far may be half of a CR LF.
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r(?=.))", re.DOTALL)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Message:
    """One event.

    Attributes:
        kind: its name; `message` where it has none.
        data: its lines, joined.
        id: the last id that was given, which a new connection resumes after.
    """

    kind: str
    data: str
    id: str


class SseParser:
    """Collects the events of one connection."""

    def __init__(self, last_id: str = "") -> None:
        """Args: last_id: as far as earlier connections got."""
        self.last_id = last_id
        self.retry_seconds: float | None = None
        self._bytes = b""
        self._kind = ""
        self._data: list[str] = []
        self._at_start = True

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The events that `chunk` completes."""
        self._bytes += chunk
        if self._at_start and len(self._bytes) >= len(_BOM):
            self._bytes, self._at_start = self._bytes.removeprefix(_BOM), False
        end = 0
        for match in _LINE.finditer(self._bytes):
            end = match.end()
            message = self._line(match[1].decode("utf-8", "replace"))
            if message is not None:
                yield message
        self._bytes = self._bytes[end:]

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._kind = value
            case "id" if "\0" not in value:
                self.last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_seconds = int(value) / 1000
        return None

    def _dispatch(self) -> Message | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "", []
        return Message(kind or "message", "\n".join(data), self.last_id) if data else None
