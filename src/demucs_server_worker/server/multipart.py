"""A form as it streams in: its fields, and its one file piece by piece. Pure: bytes in, events out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from demucs_server_worker.errors import InvalidRequest
from demucs_server_worker.server.disposition import Disposition, parse_disposition

FILE_FIELD = "file"
MOST_PARTS = 64
MOST_FIELD_BYTES = 64 * 1024
"""Of all fields together, their names included."""
MOST_PART_HEADER_BYTES = 8 * 1024
MOST_PART_HEADERS = 16


@dataclass(frozen=True)
class FileBegins:
    """The file's content comes next. Attributes: filename: as the client gave it, or None."""

    filename: str | None


@dataclass(frozen=True)
class FileData:
    """Some of the file's content."""

    data: bytes


Event = FileBegins | FileData


def boundary_of(content_type: str) -> bytes:
    """What stands between the parts.

    Raises:
        InvalidRequest: it is no form, or does not say.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise InvalidRequest(detail="a form's Content-Type is multipart/form-data with a boundary.")
    return boundary


class FormReader:
    """Reads a form fed to it in pieces.

    Attributes:
        fields: values by the fields' names, in the order in which they came; only whole ones.
        is_complete: whether the form's end was seen.
        has_file: whether a file was seen.
    """

    def __init__(self, boundary: bytes) -> None:
        """Args: boundary: see `boundary_of`."""
        self.fields: dict[str, list[str]] = {}
        self.is_complete = False
        self.has_file = False
        self._events: list[Event] = []
        self._parts = 0
        self._field_bytes = 0
        self._is_file = False
        self._part = _Part()
        self._parser = _parser(boundary, self)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next piece of the body, and give what it brought of the file.

        Raises:
            InvalidRequest: it is no form, or more of a form than is taken.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(detail=f"its form is broken ({str(error).rstrip('.').lower()}).") from None
        events, self._events = self._events, []
        yield from events

    # --- called by the parser -----------------------------------------------------------------------------------------

    def on_part_begin(self) -> None:
        self._parts += 1
        _limit(self._parts, MOST_PARTS, "parts in its form")
        self._part = _Part()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.count(end - start)
        self._part.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.count(end - start)
        self._part.value += data[start:end]

    def on_header_end(self) -> None:
        self._part.keep_header()

    def on_headers_finished(self) -> None:
        disposition = self._part.disposition()
        self._is_file = disposition.name == FILE_FIELD or disposition.filename is not None
        if not self._is_file:
            self._part.name = disposition.name or ""
            self._count_field(len(self._part.name))
            return
        if disposition.name != FILE_FIELD:
            raise InvalidRequest(detail=f"its form has a file in a field that is not called {FILE_FIELD}.")
        if self.has_file:
            raise InvalidRequest(detail="its form has more than one file; a task is one song.")
        self.has_file = True
        self._events.append(FileBegins(disposition.filename))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._events.append(FileData(data[start:end]))
            return
        self._count_field(end - start)
        self._part.content += data[start:end]

    def on_part_end(self) -> None:
        if self._is_file:
            return
        try:
            value = self._part.content.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest(detail="a field of its form is not in UTF-8.") from None
        self.fields.setdefault(self._part.name, []).append(value)

    def on_end(self) -> None:
        self.is_complete = True

    def _count_field(self, amount: int) -> None:
        self._field_bytes += amount
        _limit(self._field_bytes, MOST_FIELD_BYTES, "bytes in the fields of its form")


class _Part:
    """The part being read."""

    def __init__(self) -> None:
        self.header = b""
        self.value = b""
        self.name = ""
        self.content = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0

    def count(self, amount: int) -> None:
        self._header_bytes += amount
        _limit(self._header_bytes, MOST_PART_HEADER_BYTES, "bytes in the headers of a part of its form")

    def keep_header(self) -> None:
        self._headers[self.header.lower()] = self.value
        self.header, self.value = b"", b""
        _limit(len(self._headers), MOST_PART_HEADERS, "headers in a part of its form")

    def disposition(self) -> Disposition:
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise InvalidRequest(detail="a part of its form is encoded; send it as it is (binary).")
        disposition = parse_disposition(self._headers.get(b"content-disposition", b""))
        if not disposition.name:
            raise InvalidRequest(detail="a part of its form has no name.")
        return disposition


def _limit(count: int, most: int, what: str) -> None:
    if count > most:
        raise InvalidRequest(detail=f"there are more than {most} {what}.")


def _parser(boundary: bytes, reader: FormReader) -> MultipartParser:
    return MultipartParser(
        boundary,
        {
            "on_part_begin": reader.on_part_begin,
            "on_header_field": reader.on_header_field,
            "on_header_value": reader.on_header_value,
            "on_header_end": reader.on_header_end,
            "on_headers_finished": reader.on_headers_finished,
            "on_part_data": reader.on_part_data,
            "on_part_end": reader.on_part_end,
            "on_end": reader.on_end,
        },
    )
