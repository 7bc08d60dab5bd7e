"""Conditions and ranges: what the rules of HTTP say, on paper."""

from __future__ import annotations

import pytest

from demucs_server_worker.server.conditional import Part, Unsatisfiable, is_known, wanted_part

TAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-0", Part(0, 1)),
        ("bytes=10-19", Part(10, 20)),
        ("Bytes = 90 - 200", Part(90, 100)),
        ("bytes=99-", Part(99, 100)),
        ("bytes=-1", Part(99, 100)),
        ("bytes=-200", Part(0, 100)),
        # What a server may ignore: all of it is the answer.
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=abc", None),
        ("seconds=0-1", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_a_range(header: str | None, part: Part | None) -> None:
    assert wanted_part(100, TAG, header, None) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_without_a_byte(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        wanted_part(100, TAG, header, None)


def test_an_empty_file_has_no_range() -> None:
    with pytest.raises(Unsatisfiable):
        wanted_part(0, TAG, "bytes=0-", None)


@pytest.mark.parametrize(
    ("if_range", "counts"),
    [(None, True), ('"abc"', True), (' "abc" ', True), ('"old"', False), ('W/"abc"', False),
     ("Sun, 22 Nov 2026 10:00:00 GMT", False)],
)  # fmt: skip
def test_a_range_of_this_version_only(if_range: str | None, counts: bool) -> None:
    assert (wanted_part(100, TAG, "bytes=0-0", if_range) is not None) is counts


@pytest.mark.parametrize(
    ("header", "known"),
    [(None, False), ("*", True), ('"abc"', True), ('W/"abc"', True), ('"x", "abc"', True), ('"x","y"', False),
     ("abc", False), ('"ab', False), ("", False)],
)  # fmt: skip
def test_what_the_client_has_already(header: str | None, known: bool) -> None:
    assert is_known(TAG, header) is known
