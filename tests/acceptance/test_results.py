"""What comes back: the real command, the model `demo`, and stems that are compared sample for sample."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.audio_files import tones
from tests.http_server import API, Commanded, commanded

RATE = 44_100
SECONDS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    with commanded(tmp_path_factory.mktemp("server")) as server:
        yield server


def upload(server: Commanded, **fields: str) -> dict[str, Any]:
    song = io.BytesIO()
    soundfile.write(song, tones(SECONDS * RATE, RATE).T, RATE, format="FLAC")
    answer = server.client.post(f"{API}/tasks", files={"file": ("Für Elise.flac", song.getvalue())}, data=fields)
    assert answer.status_code == 202, answer.text
    task: dict[str, Any] = answer.json()
    return task


@pytest.fixture(scope="module")
def first(server: Commanded) -> dict[str, Any]:
    """The song, separated."""
    task = server.until_state(upload(server)["id"], "completed", "failed")
    assert (task["state"], task["cached"]) == ("completed", False)
    return task


def contents(server: Commanded, task: dict[str, Any], query: str = "") -> dict[str, bytes]:
    return {stem["name"]: server.client.get(stem["url"] + query).content for stem in task["stems"]}


def samples(sound: bytes) -> Any:
    """(samples, 2), as whole numbers of 16 bits."""
    return soundfile.read(io.BytesIO(sound), dtype="int16")[0]


def test_stems_archive_and_another_format_hold_the_same_sound(server: Commanded, first: dict[str, Any]) -> None:
    stems = contents(server, first)
    assert set(stems) == {"drums", "bass", "other", "vocals"}
    assert {name: hashlib.sha256(sound).hexdigest() for name, sound in stems.items()} == {
        stem["name"]: stem["sha256"] for stem in first["stems"]
    }
    with zipfile.ZipFile(io.BytesIO(server.client.get(f"{API}/tasks/{first['id']}/stems.zip").content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert {each["name"]: archive.read(each["path"]) for each in manifest["stems"]} == stems
    for name, sound in contents(server, first, "?format=flac").items():
        np.testing.assert_array_equal(samples(sound), samples(stems[name]))


def test_peaks_are_the_extremes_of_what_is_heard(server: Commanded, first: dict[str, Any]) -> None:
    for name, sound in contents(server, first).items():
        peaks = server.client.get(f"{API}/tasks/{first['id']}/peaks/{name}?points=50").json()
        stretches = samples(sound).reshape(50, -1)  # (points, samples of both channels)
        assert peaks["samplesPerPoint"] * 2 == stretches.shape[1]
        np.testing.assert_allclose(peaks["min"], stretches.min(axis=1) / 32768, atol=5e-5)
        np.testing.assert_allclose(peaks["max"], stretches.max(axis=1) / 32768, atol=5e-5)


def test_the_song_again_is_there_at_once_in_any_format(server: Commanded, first: dict[str, Any]) -> None:
    stems = contents(server, first)
    again = upload(server, projectName="Again")
    assert (again["state"], again["cached"]) == ("completed", True)
    assert contents(server, again) == stems
    other = server.until_state(upload(server, format="flac")["id"], "completed", "failed")
    assert (other["state"], other["cached"]) == ("completed", True)
    for name, sound in contents(server, other).items():
        np.testing.assert_array_equal(samples(sound), samples(stems[name]))
    assert server.client.delete(f"{API}/tasks/{first['id']}").status_code == 204
    assert contents(server, again) == stems
    assert not server.until_state(upload(server, shifts="1")["id"], "completed", "failed")["cached"]
