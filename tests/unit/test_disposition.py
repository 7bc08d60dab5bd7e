"""Names in forms, as browsers, curl, requests, httpx and those who mean harm write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.server.disposition import LONGEST_NAME, Disposition, display_name, parse_disposition


@pytest.mark.parametrize(
    ("header", "name", "filename"),
    [
        (b'form-data; name="file"; filename="song.mp3"', "file", "song.mp3"),
        ('form-data; name="file"; filename="Größe – 日本.mp3"'.encode(), "file", "Größe – 日本.mp3"),
        (b'form-data; name="file"; filename="a \\"b\\" \\\\ c.mp3"', "file", 'a "b" \\ c.mp3'),
        (b'form-data; name="file"; filename="a %22b%22%0D%0Ac.mp3"', "file", 'a "b"  c.mp3'),
        (b'form-data; name="file"; filename="100%.mp3"', "file", "100%.mp3"),
        (b"form-data; name=file; filename=plain.mp3", "file", "plain.mp3"),
        (b"form-data; name=\"file\"; filename*=UTF-8''na%C3%AFve%20song.mp3", "file", "naïve song.mp3"),
        (b"form-data; name=file; filename=\"x.mp3\"; filename*=utf-8'en'%E2%82%AC.mp3", "file", "€.mp3"),
        (b"form-data; name=file; filename=\"x.mp3\"; filename*=klingon''%00.mp3", "file", "x.mp3"),
        (b'form-data; name="file"; filename="semi;colon=1.mp3"', "file", "semi;colon=1.mp3"),
        (b'form-data; name="file"; filename="C:\\Music\\song.mp3"', "file", "C:\\Music\\song.mp3"),
        (b'form-data; name="file"; filename="caf\xe9.mp3"', "file", "café.mp3"),
        (b'form-data; name="first"; name="second"', "first", None),
        (b'form-data; FILENAME="A.MP3"; Name="file"', "file", "A.MP3"),
        (b'form-data; name="file"; filename=""', "file", ""),
        (b"form-data", None, None),
        (b"", None, None),
    ],
)
def test_a_parts_names_are_read_as_they_were_meant(header: bytes, name: str | None, filename: str | None) -> None:
    assert parse_disposition(header) == Disposition(name=name, filename=filename)


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("song.mp3", "song.mp3"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Music\\song.mp3", "song.mp3"),
        ("a\r\nSet-Cookie: x.mp3", "a Set-Cookie: x.mp3"),
        ("a\0b\x1b[31m.mp3", "ab[31m.mp3"),
        ("gpj.\u202e3pm.mp3", "gpj.3pm.mp3"),
        ("-rf.mp3", "-rf.mp3"),
        ("emoji 👩\u200d🎤.mp3", "emoji 👩\u200d🎤.mp3"),
        ("..", None),
        ("folder/", None),
        ("", None),
        (None, None),
        ("\ud800", None),
        ("x" * 300 + ".mp3", "x" * (LONGEST_NAME - 4) + ".mp3"),
    ],
)
def test_a_name_for_people_is_one_visible_line_without_folders(filename: str | None, shown: str | None) -> None:
    assert display_name(filename) == shown


@given(st.binary(max_size=300))
def test_no_header_breaks_the_reader(header: bytes) -> None:
    name = display_name(parse_disposition(header).filename)
    assert name is None or (name.encode() and "/" not in name and "\n" not in name and 0 < len(name) <= LONGEST_NAME)
