"""The pure parts of the clients: which server, what is sent, what comes back."""

from __future__ import annotations

import io
import itertools
import json
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.client import files
from demucs_server_worker.client.server import find_server, pause_before, retry_after
from demucs_server_worker.client.sse import Message, SseParser
from demucs_server_worker.client.submission import form_fields
from demucs_server_worker.client.upload import CHUNK_BYTES, Upload
from demucs_server_worker.errors import InputUnreadable, InvalidOption, InvalidSetting, NotOurServer

# --- which server ----------------------------------------------------------------------------------------------------


def test_the_argument_wins_over_the_environment_and_that_over_this_machine() -> None:
    there = {"DEMUCS_WORKER_URL": "https://stems.example/", "DEMUCS_WORKER_API_KEY": "secret"}
    assert find_server(environment={}).url == "http://127.0.0.1:8000"
    assert find_server(environment=there).url == "https://stems.example"
    assert find_server("studio:9000", environment=there).url == "http://studio:9000"
    assert find_server(environment=there).headers["Authorization"] == "Bearer secret"
    assert find_server(api_key="other", environment=there).headers["Authorization"] == "Bearer other"
    assert "Authorization" not in find_server(environment={}).headers


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8000", True),
        ("http://localhost:8000", True),
        ("http://stems.localhost", True),
        ("http://localhost.example", False),
        ("http://192.168.0.1", False),
    ],
)
def test_no_proxy_stands_before_this_machine(url: str, here: bool) -> None:
    assert find_server(url, environment={}).is_on_this_machine is here


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://x:99999", "http://a b", "http://u:secret@x", "http://x?y"]
)
def test_what_is_no_address_is_refused_and_a_password_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSetting, match="DEMUCS_WORKER_URL") as caught:
        find_server(url, environment={})
    assert "secret" not in str(caught.value)


def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidSetting) as caught:
        find_server(api_key="gehe\nim", environment={})
    assert "gehe" not in str(caught.value)


def test_pauses_double_up_to_a_bound_and_are_never_the_same_for_all() -> None:
    for attempt, longest in ((1, 0.2), (2, 0.4), (3, 0.8), (50, 5.0)):
        pauses = {pause_before(attempt) for _ in range(50)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 1


def test_a_server_is_asked_again_when_it_says_but_not_in_an_hour() -> None:
    assert retry_after({"retry-after": "7"}) == 7.0
    assert retry_after({"retry-after": "3600"}) == 30.0
    assert retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}) is None
    assert retry_after({}) is None


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_fields_are_what_was_given_and_nothing_else() -> None:
    fields = form_fields({"stems": "vocals, drums", "bit_depth": 24, "overlap": "0.1", "segment": None, "file_id": "a"})
    assert json.dumps(fields, sort_keys=True) == json.dumps(
        {"bitDepth": "24", "fileId": "a", "overlap": 0.1, "stems": ["vocals", "drums"]}
    )
    assert form_fields({"webhook": "https://x.example"}) == {"webhook": {"url": "https://x.example"}}


@pytest.mark.parametrize("options", [{"format": "xyz"}, {"shifts": -1}, {"no_such": 1}])
def test_options_are_refused_before_anything_is_sent(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(options))):
        form_fields(options)


def parts_of(upload: Upload) -> dict[str, tuple[str | None, bytes]]:
    """The form as a parser of e-mail reads it: an independent one."""
    body = b"".join(upload.chunks())
    assert upload.total_bytes in (None, len(body))
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {upload.content_type}\r\n\r\n".encode() + body)
    found = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        found[str(name)] = (part.get_filename(), part.get_payload(decode=True))
    return found  # type: ignore[return-value]


def test_an_upload_is_a_form_with_its_fields_and_the_file_last(tmp_path: Path) -> None:
    song = tmp_path / "a song.wav"
    song.write_bytes(bytes(range(256)) * 3000)
    upload = Upload(song, "a song.wav", {"format": "flac", "stems": "vocals"})
    parts = parts_of(upload)
    assert list(parts) == ["format", "stems", "file"]
    assert parts["file"] == ("a song.wav", song.read_bytes())
    assert parts["format"][1] == b"flac"
    assert parts_of(upload) == parts  # it can be sent again


def test_a_name_cannot_end_the_header_it_stands_in() -> None:
    upload = Upload(io.BytesIO(b"x"), 'a"\r\nX-Evil: 1\r\n\r\n.wav', {})
    head = b"".join(upload.chunks()).split(b"\r\n\r\n")[0]
    assert b"\r\nX-Evil" not in head and b"a%22%0D%0AX-Evil: 1" in head


def test_a_stream_is_sent_from_where_it_stands_and_again_only_if_it_can_be_rewound() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    upload = Upload(file, "x", {})
    assert upload.can_be_repeated
    assert [parts_of(upload)["file"][1] for _ in range(2)] == [b"456789"] * 2

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    once = Upload(Pipe(b"abc"), "x", {})
    assert (once.can_be_repeated, once.total_bytes) == (False, None)
    assert parts_of(once)["file"][1] == b"abc"


def test_a_file_that_changes_while_it_is_sent_is_not_sent_as_a_whole(tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(b"x" * (2 * CHUNK_BYTES))
    chunks = Upload(song, "song.wav", {}).chunks()
    next(chunks), next(chunks)
    song.write_bytes(b"x" * (3 * CHUNK_BYTES))
    with pytest.raises(InputUnreadable, match=r"song\.wav .*changed"):
        list(chunks)


def test_progress_counts_the_whole_body() -> None:
    told: list[tuple[int, int | None]] = []
    upload = Upload(io.BytesIO(b"x" * CHUNK_BYTES), "x", {}, lambda sent, total: told.append((sent, total)))
    for chunk in upload.chunks():
        upload.tell(chunk)
    assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)
    assert told[-1] == (upload.total_bytes, upload.total_bytes)


# --- what comes back -------------------------------------------------------------------------------------------------

STREAM = (
    b"\xef\xbb\xbf: heartbeat\r\nid: a-1\r\nevent: progress\r\ndata: {1}\r\ndata:{2}\r\n\r\n"
    b"data: \xc3\xa4\xe2\x80\xa8b\n\n"
    b"event: nothing\n\n"
    b"retry: 1500\rid: a-2\rdata\r\r"
    b"data: half"
)
MESSAGES = [
    Message("progress", "{1}\n{2}", "a-1"),
    Message("message", "ä\u2028b", "a-1"),
    Message("message", "", "a-2"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_are_the_same_however_their_bytes_arrive(cuts: list[int]) -> None:
    parser = SseParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [m for a, b in itertools.pairwise(edges) for m in parser.feed(STREAM[a:b])]
    assert found == MESSAGES
    assert (parser.last_id, parser.retry_seconds) == ("a-2", 1.5)


def test_a_stem_is_never_a_path() -> None:
    assert files.stem_file("no_vocals", "flac", "http://x") == "no_vocals.flac"
    for name, format in (("../evil", "wav"), ("a/b", "wav"), ("", "wav"), ("vocals", "sh"), ("a" * 40, "wav")):
        with pytest.raises(NotOurServer):
            files.stem_file(name, format, "http://x")
    with pytest.raises(NotOurServer):
        files.checked_hash("../../etc/passwd", "http://x")


def test_a_tag_is_a_hash_only_if_it_is_one() -> None:
    sha256 = "ab" * 32
    assert files.hash_in(f'"{sha256}"') == sha256
    assert files.hash_in(f'W/"{sha256}"') is None
    assert files.hash_in(sha256) is None
    assert files.hash_in("") is None
