"""Forms as they stream in: in any pieces the same, and no more of them than is taken."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.errors import InvalidRequest
from demucs_server_worker.server.multipart import (
    MOST_FIELD_BYTES,
    MOST_PARTS,
    FileBegins,
    FileData,
    FormReader,
    boundary_of,
)

BOUNDARY = b"frontier"
FILE = b'name="file"; filename="song.mp3"'


def part(disposition: bytes, content: bytes, *headers: bytes) -> bytes:
    lines = [b"--" + BOUNDARY, b"Content-Disposition: form-data; " + disposition, *headers, b"", content, b""]
    return b"\r\n".join(lines)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def read(*pieces: bytes) -> tuple[FormReader, bytes, list[str | None]]:
    """The reader after the pieces, the file's content, and the names of the files that began."""
    reader = FormReader(BOUNDARY)
    events = [event for piece in pieces for event in reader.feed(piece)]
    content = b"".join(event.data for event in events if isinstance(event, FileData))
    return reader, content, [event.filename for event in events if isinstance(event, FileBegins)]


# Content that looks like the end of the part nearly to the last byte.
TRICKY = b"a\r\n--frontie\r\n--frontier-x\r\n\r\n--"
WHOLE = form(
    part(b'name="projectName"', "Größe".encode()), part(FILE, TRICKY, b"Content-Type: audio/mpeg"),
    part(b'name="stems"', b"vocals"), part(b'name="stems"', b"drums"),
)  # fmt: skip


def test_fields_before_and_behind_the_file_are_read_and_the_file_is_passed_on() -> None:
    reader, content, names = read(WHOLE)
    assert reader.fields == {"projectName": ["Größe"], "stems": ["vocals", "drums"]}
    assert (content, names, reader.is_complete, reader.has_file) == (TRICKY, ["song.mp3"], True, True)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_however_the_form_is_cut_it_reads_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    reader, content, names = read(*(WHOLE[start:end] for start, end in pairwise(edges)))
    assert (reader.fields, content, names) == (read(WHOLE)[0].fields, TRICKY, ["song.mp3"])


@given(st.integers(0, len(WHOLE) - 5))
def test_a_form_that_breaks_off_is_never_complete(end: int) -> None:
    assert read(WHOLE[:end])[0].is_complete is False


def test_a_file_without_a_name_is_a_file() -> None:
    assert read(form(part(b'name="file"', b"sound")))[1:] == (b"sound", [None])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (form(part(FILE, b"a"), part(FILE, b"b")), "more than one file"),
        (form(part(b'name="song"; filename="a.mp3"', b"a")), "not called file"),
        (form(part(b'filename="a.mp3"', b"a")), "has no name"),
        (form(part(b"", b"a")), "has no name"),
        (form(part(b'name="a"', b"\xff\xfe")), "not in UTF-8"),
        (form(part(FILE, b"aGk=", b"Content-Transfer-Encoding: base64")), "is encoded"),
        (form(*[part(b'name="a"', b"")] * (MOST_PARTS + 1)), "64 parts"),
        (form(part(b'name="a"', b"x" * (MOST_FIELD_BYTES + 1))), "65536 bytes in the fields"),
        (form(part(b'name="a"', b"", *[b"X-%d: y" % n for n in range(17)])), "headers|broken"),
        (form(part(b'name="a"', b"", b"X: " + b"y" * 9_000)), "headers|broken"),
        (b"no form at all", "broken"),
        (b"--frontier\r\nno colon\r\n\r\n", "broken"),
        (b"--frontier\r\nBad\0Header: x\r\n\r\n", "broken"),
    ],
)
def test_more_than_one_song_with_its_fields_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read(body)


def test_a_header_without_end_is_cut_short_long_before_it_fills_the_memory() -> None:
    reader = FormReader(BOUNDARY)
    list(reader.feed(b"--frontier\r\nX: "))
    with pytest.raises(InvalidRequest):
        for _ in range(20):
            list(reader.feed(b"y" * 1_000))


def test_what_follows_the_end_is_dropped() -> None:
    reader, content, _ = read(WHOLE, b"x" * 100_000, form(part(FILE, b"again")))
    assert (content, list(reader.fields)) == (TRICKY, ["projectName", "stems"])


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "application/json", "multipart/mixed; boundary=a", ""],
)
def test_a_body_that_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        boundary_of(content_type)


def test_a_boundary_may_be_quoted() -> None:
    assert boundary_of('multipart/form-data; boundary="a b=c"') == b"a b=c"
