"""Results over HTTP: stems in ranges and formats, archives, peaks; and tasks that are deleted with their files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from tests.audio_files import tones, write_pcm
from tests.http_server import API, DEADLINE_SECONDS, InProcess, serving
from tests.separations import read
from tests.servers import until

RATE = 44_100
# Stems of 8 MB: the server's socket buffers at most half of one for a client of `slow_to_take`.
LONG_SECONDS = 45


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("server"), workers=2, model="demo") as server:
        write_pcm(server.folder / "song.wav", tones(2 * RATE, RATE), RATE, "PCM_16")
        yield server


def upload(server: InProcess, seed: int = 0, seconds: int = 1, **fields: Any) -> dict[str, Any]:
    """A completed upload whose stems are its song."""
    sound = io.BytesIO()
    soundfile.write(sound, tones(seconds * RATE, RATE, seed=seed).T, RATE, format="WAV", subtype="PCM_16")
    values = {"inputName": "copy", **fields}
    answer = server.client.post(
        f"{API}/tasks", files={"file": ("song.wav", sound.getvalue())}, data={k: str(v) for k, v in values.items()}
    )
    assert answer.status_code == 202, answer.text
    return server.until_state(answer.json()["id"], "completed")


@pytest.fixture(scope="module")
def task(server: InProcess) -> dict[str, Any]:
    """A completed task whose files are its caller's."""
    return server.until_state(server.submit("copy vocals other", projectName="Ünder")["id"], "completed")


@contextmanager
def slow_to_take(server: InProcess) -> Iterator[httpx.Client]:
    """A client whose downloads are not over before it reads them: left alone, its socket would take 32 MB."""
    transport = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)])
    with httpx.Client(base_url=server.url, transport=transport, timeout=DEADLINE_SECONDS) as client:
        yield client


def stem_url(task: dict[str, Any], stem: str = "vocals") -> str:
    return next(each["url"] for each in task["stems"] if each["name"] == stem)


def folders(server: InProcess) -> set[str]:
    """What the server keeps for uploads and makes of stems."""
    kept = (server.folder / "data" / name for name in ("uploads", "results", "derived"))
    return {f"{path.parent.name}/{path.name}" for folder in kept if folder.is_dir() for path in folder.iterdir()}


# --- a stem ----------------------------------------------------------------------------------------------------------


def test_a_stem_is_what_the_task_says(server: InProcess, task: dict[str, Any]) -> None:
    answer = server.client.get(stem_url(task))
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == task["stems"][0]["sha256"]
    assert answer.headers["etag"] == f'"{task["stems"][0]["sha256"]}"'
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-length"] == str(task["stems"][0]["bytes"])
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"] == "private, no-cache"
    head = server.client.head(stem_url(task))
    assert (head.status_code, head.content) == (200, b"")
    same = ("etag", "content-type", "content-length", "content-disposition", "accept-ranges")
    assert [head.headers[name] for name in same] == [answer.headers[name] for name in same]


@pytest.mark.parametrize(
    ("range_", "part"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None)),
     ("bytes=5-99999999999", slice(5, None))],
)  # fmt: skip
def test_a_part_of_it(server: InProcess, task: dict[str, Any], range_: str, part: slice) -> None:
    whole = server.client.get(stem_url(task)).content
    answer = server.client.get(stem_url(task), headers={"Range": range_})
    start, stop, _ = part.indices(len(whole))
    assert answer.status_code == 206
    assert answer.content == whole[part]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


def test_past_the_end_there_is_nothing(server: InProcess, task: dict[str, Any]) -> None:
    answer = server.client.get(stem_url(task), headers={"Range": "bytes=99999999-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "not_in_range")
    assert answer.headers["content-range"] == f"bytes */{task['stems'][0]['bytes']}"


def test_who_has_it_is_told_so_and_a_range_of_another_version_gives_all(
    server: InProcess, task: dict[str, Any]
) -> None:
    etag = server.client.head(stem_url(task)).headers["etag"]
    known = server.client.get(stem_url(task), headers={"If-None-Match": f'"old", W/{etag}', "Range": "bytes=0-1"})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    ranges = {"Range": "bytes=0-1"}
    assert server.client.get(stem_url(task), headers={**ranges, "If-Range": etag}).status_code == 206
    assert server.client.get(stem_url(task), headers={**ranges, "If-Range": '"old"'}).status_code == 200


def test_its_name_is_the_songs_and_safe(server: InProcess) -> None:
    task = upload(server, seed=3, inputName='copy naïve\\"\r\nX-Evil: 1\u202e…\tвокал.wav')
    disposition = server.client.get(stem_url(task, task["stems"][0]["name"])).headers["content-disposition"]
    assert disposition.startswith('attachment; filename="')
    assert "filename*=UTF-8''" in disposition
    assert not {"\r", "\n", "\\"} & set(disposition)
    assert "x-evil" not in disposition.partition("filename*")[0].lower().replace("x-evil_", "").replace("evil", "")


@pytest.mark.parametrize("state", ["queued", "failed"])
def test_a_task_without_stems_says_so(server: InProcess, state: str) -> None:
    script = "raise unreadable" if state == "failed" else "wait"
    submitted = server.submit(script, shifts=7)  # with stems that another test left, it would be answered at once
    if state == "failed":
        server.until_state(submitted["id"], "failed")
    for path in ("stems/vocals", "stems.zip", "peaks/vocals"):
        answer = server.client.get(f"{API}/tasks/{submitted['id']}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "task_conflict")
    if state == "queued":
        server.client.post(f"{API}/tasks/{submitted['id']}/cancel")


def test_an_unknown_stem_is_answered_with_those_there_are(server: InProcess, task: dict[str, Any]) -> None:
    answer = server.client.get(f"{API}/tasks/{task['id']}/stems/guitar")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "vocals, other" in answer.json()["detail"]
    assert server.client.get(f"{API}/tasks/nobody/stems/vocals").status_code == 404


# --- a stem that is not there any more as it was ---------------------------------------------------------------------


@pytest.mark.parametrize("change", ["removed", "shorter", "other content", "a link", "a link above", "a pipe"])
def test_never_another_files_bytes(server: InProcess, change: str, tmp_path: Path) -> None:
    task = server.until_state(server.submit("copy", projectName=change)["id"], "completed")
    path = Path(task["stems"][0]["path"])
    assert server.client.get(stem_url(task)).status_code == 200
    content = path.read_bytes()
    if change == "other content":
        before = path.stat()
        path.write_bytes(bytes(len(content)))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "a link above":
        os.rename(path.parent, tmp_path / "elsewhere")
        path.parent.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
        match change:
            case "shorter":
                path.write_bytes(content[:-1])
            case "a link":
                (tmp_path / "secret").write_bytes(content)
                path.symlink_to(tmp_path / "secret")
            case "a pipe":
                os.mkfifo(path)
    for url in (stem_url(task), f"{API}/tasks/{task['id']}/stems.zip", f"{stem_url(task)}?format=flac"):
        answer = server.client.get(url)
        assert (answer.status_code, answer.json()["code"]) == (410, "gone"), url
        assert str(server.folder) not in answer.text


# --- in another format -----------------------------------------------------------------------------------------------


def test_another_format_is_encoded_once_and_kept(server: InProcess) -> None:
    task = upload(server, seed=5)
    url = f"{stem_url(task)}?format=flac"
    answer = server.client.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/flac")
    assert "- vocals.flac" in answer.headers["content-disposition"]
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(answer.content))[0], tones_read(server, task))
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    (kept,) = (server.folder / "data" / "derived" / task["id"]).iterdir()
    inode = kept.stat().st_ino
    again = server.client.get(url, headers={"Range": "bytes=0-3"})
    assert (again.status_code, again.content) == (206, b"fLaC")
    assert [path.stat().st_ino for path in kept.parent.iterdir()] == [inode]
    assert kept.stat().st_mode & 0o077 == 0 or kept.parent.stat().st_mode & 0o077 == 0


def tones_read(server: InProcess, task: dict[str, Any]) -> Any:
    return soundfile.read(io.BytesIO(server.client.get(stem_url(task)).content))[0]


def test_many_who_ask_at_once_get_one_encoding(server: InProcess) -> None:
    task = upload(server, seed=6)

    async def ask() -> list[httpx.Response]:
        import asyncio

        async with httpx.AsyncClient(base_url=server.url) as client:
            return await asyncio.gather(*(client.get(f"{stem_url(task)}?format=mp3&bitrate=128") for _ in range(20)))

    answers = server.call(ask())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(list((server.folder / "data" / "derived" / task["id"]).iterdir())) == 1


def test_the_format_it_has_is_the_file_itself(server: InProcess, task: dict[str, Any]) -> None:
    answer = server.client.get(f"{stem_url(task)}?format=wav&bitDepth=16&bitrate=128")
    assert answer.headers["etag"] == f'"{task["stems"][0]["sha256"]}"'
    deeper = server.client.get(f"{stem_url(task)}?format=wav&bit_depth=24")
    assert deeper.headers["etag"] != answer.headers["etag"]
    assert soundfile.info(io.BytesIO(deeper.content)).subtype == "PCM_24"


@pytest.mark.parametrize("query", ["format=xyz", "format=mp3&bitrate=8", "format=flac&bitDepth=float32", "bitrate=128"])
def test_a_format_that_there_is_not(server: InProcess, task: dict[str, Any], query: str) -> None:
    answer = server.client.get(f"{stem_url(task)}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


# --- all of them -----------------------------------------------------------------------------------------------------


def test_the_archive_holds_the_stems_and_the_manifest_that_fits_them(server: InProcess) -> None:
    task = upload(server, seed=7, projectName="プロジェクト", filename="{track}/{stem}/ü {track}.{ext}")
    answer = server.client.get(f"{API}/tasks/{task['id']}/stems.zip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-length"] == str(len(answer.content))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        hashes = {stem["path"]: stem["sha256"] for stem in manifest["stems"]}
        assert set(archive.namelist()) == {"manifest.json", *hashes}
        assert {path: hashlib.sha256(archive.read(path)).hexdigest() for path in hashes} == hashes
        assert "vocals/ü copy.wav" in hashes
    known = server.client.get(f"{API}/tasks/{task['id']}/stems.zip", headers={"If-None-Match": answer.headers["etag"]})
    assert known.status_code == 304


def test_a_download_that_the_client_breaks_off_lets_go_of_its_files(server: InProcess) -> None:
    task = upload(server, seed=8, seconds=LONG_SECONDS)
    results = str(server.folder / "data" / "results")
    for path in ("stems/vocals", "stems.zip"):
        with slow_to_take(server) as client, client.stream("GET", f"{API}/tasks/{task['id']}/{path}") as answer:
            pieces = answer.iter_raw(1)  # kept: a generator that is let go of closes the connection
            next(pieces)
            assert open_below(results)
        until(lambda: not open_below(results), "the files are closed")


def open_below(folder: str) -> list[str]:
    """Files below `folder` that this process, which the server runs in, has open."""
    return [name for fd in os.listdir("/proc/self/fd") if (name := target(fd)).startswith(folder)]


def target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


# --- as a picture ----------------------------------------------------------------------------------------------------


def test_peaks_are_those_of_the_sound(server: InProcess, task: dict[str, Any]) -> None:
    answer = server.client.get(f"{API}/tasks/{task['id']}/peaks/vocals?points=100")
    peaks = answer.json()
    song = read(server.folder / "song.wav")
    per_point = peaks["samplesPerPoint"]
    assert (peaks["stem"], peaks["sampleRate"], per_point, len(peaks["min"])) == ("vocals", RATE, 882, 100)
    for at in (0, 42, 99):
        stretch = song[:, at * per_point : (at + 1) * per_point]
        assert peaks["min"][at] == pytest.approx(stretch.min(), abs=1e-4)
        assert peaks["max"][at] == pytest.approx(stretch.max(), abs=1e-4)
    known = server.client.get(
        f"{API}/tasks/{task['id']}/peaks/vocals?points=100", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert known.status_code == 304


def test_peaks_as_the_file_that_waveform_viewers_read(server: InProcess, task: dict[str, Any]) -> None:
    data = server.client.get(f"{API}/tasks/{task['id']}/peaks/vocals?points=100&format=dat").content
    assert struct.unpack("<iIiiIi", data[:24]) == (2, 0, RATE, 882, 100, 1)
    assert len(data) == 24 + 100 * 4


@pytest.mark.parametrize("points", [0, 20_001, "x"])
def test_peaks_have_bounds(server: InProcess, task: dict[str, Any], points: object) -> None:
    answer = server.client.get(f"{API}/tasks/{task['id']}/peaks/vocals?points={points}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_deleted_upload_leaves_nothing(server: InProcess) -> None:
    before = folders(server)
    task = upload(server, seed=9)
    assert server.client.get(f"{stem_url(task)}?format=flac").status_code == 200
    assert len(folders(server) - before) == 3
    assert server.client.delete(f"{API}/tasks/{task['id']}").status_code == 204
    assert folders(server) == before
    assert server.client.get(f"{API}/tasks/{task['id']}").status_code == 404
    assert server.client.delete(f"{API}/tasks/{task['id']}").status_code == 404


def test_a_deleted_task_of_a_song_on_the_server_leaves_the_callers_files(server: InProcess) -> None:
    task = server.until_state(server.submit("copy", projectName="keep")["id"], "completed")
    assert server.client.delete(f"{API}/tasks/{task['id']}").status_code == 204
    assert (server.folder / "song.wav").exists()
    assert all(Path(stem["path"]).exists() for stem in task["stems"])


def test_a_running_task_is_not_deleted(server: InProcess) -> None:
    # A song of its own: the stems of one that was separated before would be its stems at once.
    song = write_pcm(server.folder / "running.wav", tones(RATE, RATE, seed=11), RATE, "PCM_16")
    running = server.submit("wait", inputPath=str(song))
    server.until_state(running["id"], "running")
    answer = server.client.delete(f"{API}/tasks/{running['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "task_conflict")
    server.client.post(f"{API}/tasks/{running['id']}/cancel")
    assert server.client.delete(f"{API}/tasks/{running['id']}").status_code == 204


def test_a_download_under_way_comes_to_its_end_when_its_task_is_deleted(server: InProcess) -> None:
    task = upload(server, seed=10, seconds=LONG_SECONDS)
    whole = server.client.get(f"{API}/tasks/{task['id']}/stems.zip").headers["content-length"]
    with slow_to_take(server) as client, client.stream("GET", f"{API}/tasks/{task['id']}/stems.zip") as answer:
        pieces = answer.iter_raw(1024)
        received = len(next(pieces))
        assert open_below(str(server.folder / "data" / "results"))
        assert httpx.delete(f"{server.url}{API}/tasks/{task['id']}").status_code == 204
        received += sum(len(piece) for piece in pieces)
    assert received == int(whole)
