"""Uploads to a real server: what becomes a task, what is refused, and what is left on the disk."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from demucs_server_worker.server.folders import folders_of
from demucs_server_worker.task import Origin, Task
from tests.http_server import API, InProcess, serving, write_song
from tests.raw_http import BOUNDARY, connected, form, head

HOSTILE = [
    "../../../etc/cron.d/x.wav", "/etc/passwd", "C:\\boot.ini", "a\0b.wav", "-rf.wav", "x" * 400 + ".wav", "..wav"
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("uploads")
    with serving(folder, workers=2, models="demo,htdemucs") as server:
        yield server


@pytest.fixture(scope="module")
def song(server: InProcess) -> bytes:
    return (server.folder / "song.wav").read_bytes()


def upload(server: InProcess, song: bytes, name: str = "song.wav", **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", {})
    return server.client.post(f"{API}/tasks", files={"file": (name, song)}, data=fields, headers=headers)


def stored(server: InProcess, answer: httpx.Response) -> Task:
    assert answer.status_code in (200, 202), answer.text

    async def get() -> Task:
        return server.manager.get_task(answer.json()["id"])

    return server.call(get())


def uploads(server: InProcess) -> set[str]:
    """The folders of uploads that there are."""
    folder = server.folder / "data" / "uploads"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


# --- taken -----------------------------------------------------------------------------------------------------------


def test_an_upload_becomes_a_task_with_a_private_copy_its_hash_and_its_length(server: InProcess, song: bytes) -> None:
    answer = upload(server, song, "Größe – 日本.wav", stems="vocals", projectName="P", priority="high", format="flac")
    assert (answer.status_code, answer.headers["location"]) == (202, f"{API}/tasks/{answer.json()['id']}")
    body, task = answer.json(), stored(server, answer)
    assert (body["inputName"], body["projectName"], body["priority"]) == ("Größe – 日本.wav", "P", "high")
    assert (body["durationSeconds"], body["options"]["stems"], body["options"]["format"]) == (1.0, ["vocals"], "flac")
    assert task.request.origin is Origin.UPLOAD
    assert task.request.input_sha256 == hashlib.sha256(song).hexdigest()
    folders = folders_of(task, server.folder / "data")
    assert folders is not None
    assert folders.song.read_bytes() == song
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folders.song, folders.upload, folders.upload.parent)]
    assert modes == [0o600, 0o700, 0o700]
    assert task.request.output_dir == str(folders.results)
    assert str(server.folder) not in answer.text


def test_the_stems_of_an_upload_lie_in_a_folder_of_their_own(server: InProcess, song: bytes) -> None:
    answer = upload(server, song, inputName="succeed")
    done = server.until_state(answer.json()["id"], "completed")
    folders = folders_of(stored(server, answer), server.folder / "data")
    assert folders is not None
    assert (folders.results / "vocals.wav").is_file()
    assert folders.song.is_file()  # a retry would need it
    assert done["stems"][0]["path"] is None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_files_name_is_only_shown_and_never_a_path(server: InProcess, song: bytes, name: str) -> None:
    before = {path for path in server.folder.rglob("*") if "uploads" not in path.parts}
    task = stored(server, upload(server, song, name))
    assert "/" not in task.request.input_name
    assert "\0" not in task.request.input_name
    assert Path(task.request.input_path).name == "song"
    assert Path(task.request.input_path).is_relative_to(server.folder / "data" / "uploads")
    after = {path for path in server.folder.rglob("*") if "uploads" not in path.parts}
    assert {path for path in after - before if "results" not in path.parts and "staging" not in path.parts} == set()


def test_a_song_of_several_pieces_arrives_whole(server: InProcess) -> None:
    path = write_song(server.folder / "long.wav", 400.0)  # 6.4 MB
    task = stored(server, upload(server, path.read_bytes(), "long.wav"))
    assert Path(task.request.input_path).read_bytes() == path.read_bytes()
    assert task.duration_seconds == 400.0


def test_a_body_in_chunks_without_a_length_is_taken(server: InProcess, song: bytes) -> None:
    body = form(song, stems="vocals")
    pieces = (body[at : at + 1_000] for at in range(0, len(body), 1_000))
    answer = server.client.post(
        f"{API}/tasks", content=pieces, headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )
    assert stored(server, answer).request.options.stems == ("vocals",)


# --- the same again --------------------------------------------------------------------------------------------------


def test_the_same_key_with_the_same_song_is_the_same_task_and_leaves_one_folder(server: InProcess, song: bytes) -> None:
    before = uploads(server)
    first = upload(server, song, headers={"Idempotency-Key": "again-1"})
    second = upload(server, song, fileId="again-1")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["location"] == first.headers["location"]
    assert len(uploads(server) - before) == 1


def test_the_same_key_with_another_song_or_option_is_a_conflict_and_leaves_nothing(
    server: InProcess, song: bytes
) -> None:
    upload(server, song, fileId="again-2")
    before = uploads(server)
    other = write_song(server.folder / "other.wav", 2.0).read_bytes()
    for answer in (upload(server, other, fileId="again-2"), upload(server, song, fileId="again-2", format="mp3")):
        assert (answer.status_code, answer.json()["code"]) == (409, "task_conflict")
    assert uploads(server) == before


def test_fifty_identical_uploads_at_once_are_one_task_with_one_folder(server: InProcess, song: bytes) -> None:
    before = uploads(server)
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: upload(server, song, fileId="fifty"), range(50)))
    assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert len(uploads(server) - before) == 1
    assert Path(stored(server, answers[0]).request.input_path).read_bytes() == song


def test_two_keys_that_differ_are_refused(server: InProcess, song: bytes) -> None:
    answer = upload(server, song, fileId="one", headers={"Idempotency-Key": "two"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


# --- refused, with nothing left --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "fields", "status", "code"),
    [
        ("notes.mp3", b"these are words", {}, 415, "unsupported_format"),
        ("empty.wav", b"", {}, 415, "unsupported_format"),
        ("list.mp3", b"#EXTM3U\nfile:///etc/passwd\n", {}, 415, "unsupported_format"),
        ("cut.flac", b"fLaC\0\0\0\x22", {}, 415, "input_unreadable"),
        ("song.wav", None, {"format": "xyz"}, 422, "invalid_option"),
        ("song.wav", None, {"bitrate": "loud"}, 422, "invalid_option"),
        ("song.wav", None, {"nonsense": "1"}, 422, "invalid_option"),
        ("song.wav", None, {"inputPath": "/etc/passwd"}, 422, "invalid_option"),
        ("song.wav", None, {"model": "mdx_extra"}, 422, "unknown_model"),
        ("song.wav", None, {"webhook": "https://elsewhere.example/"}, 422, "invalid_option"),
        ("song.wav", None, {"fileId": "x" * 600}, 422, "invalid_option"),
    ],
)
def test_what_cannot_become_a_task_is_refused_and_leaves_nothing(
    server: InProcess, song: bytes, name: str, content: bytes | None, fields: dict[str, str], status: int, code: str
) -> None:
    before = uploads(server)
    answer = upload(server, song if content is None else content, name, **fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert uploads(server) == before


def test_a_form_without_a_song_is_refused(server: InProcess) -> None:
    answer = server.client.post(f"{API}/tasks", files={"stems": (None, "vocals")})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "field called file" in answer.json()["detail"]


def test_two_songs_in_one_form_are_refused_and_leave_nothing(server: InProcess, song: bytes) -> None:
    before = uploads(server)
    answer = server.client.post(f"{API}/tasks", files=[("file", ("a.wav", song)), ("file", ("b.wav", song))])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert uploads(server) == before


# --- limits of a server of their own ---------------------------------------------------------------------------------


def test_a_full_queue_refuses_before_the_song_is_sent(tmp_path: Path) -> None:
    with serving(tmp_path, max_queued=1) as server:
        server.until_state(server.submit("wait")["id"], "running")
        server.submit("succeed")
        with connected(server.url) as client:
            client.send(head(50_000_000, Expect="100-continue"))
            answer = client.answer()
        assert (answer.status, answer.problem["code"], answer.ended) == (503, "queue_full", True)
        assert int(answer.headers["retry-after"]) > 0
        assert uploads(server) == set()


def test_a_song_that_is_too_long_by_its_header_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, max_duration=10) as server:
        answer = upload(server, write_song(tmp_path / "long.wav", 11.0).read_bytes())
        assert (answer.status_code, answer.json()["code"]) == (413, "input_too_long")
        assert uploads(server) == set()


# --- songs that lie on the server ------------------------------------------------------------------------------------


def test_a_path_below_an_allowed_root_is_probed_and_taken(server: InProcess) -> None:
    task = server.submit("succeed", fileId="path-1")
    assert task["durationSeconds"] == 1.0
    again = server.client.post(f"{API}/tasks", json=server.submission("succeed"), headers={"Idempotency-Key": "path-1"})
    assert (again.status_code, again.json()["id"]) == (200, task["id"])


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"inputPath": "/etc/passwd"}, 403, "forbidden"),
        ({"outputDir": "/tmp/elsewhere"}, 403, "forbidden"),
        ({"inputPath": "{folder}/../x.wav"}, 403, "forbidden"),
        ({"inputPath": "{folder}/link.wav"}, 403, "forbidden"),
        ({"inputPath": "{folder}/missing.wav"}, 422, "input_not_found"),
        ({"inputPath": "{folder}/words.wav"}, 415, "unsupported_format"),
        ({"model": "mdx_extra"}, 422, "unknown_model"),
        ({"nonsense": 1}, 422, "invalid_option"),
    ],
)
def test_a_path_that_is_not_allowed_or_no_song_is_refused(
    server: InProcess, change: dict[str, Any], status: int, code: str, tmp_path: Path
) -> None:
    outside = write_song(tmp_path / "outside.wav")
    link = server.folder / "link.wav"
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    (server.folder / "words.wav").write_text("words")
    change = {
        name: value.format(folder=server.folder) if isinstance(value, str) else value for name, value in change.items()
    }
    answer = server.client.post(f"{API}/tasks", json=server.submission(**change))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_without_allowed_roots_the_answer_says_what_to_set(tmp_path: Path) -> None:
    with serving(tmp_path, allowed_roots="") as server:
        answer = server.client.post(f"{API}/tasks", json=server.submission())
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "DEMUCS_WORKER_ALLOWED_ROOTS" in answer.json()["detail"]
