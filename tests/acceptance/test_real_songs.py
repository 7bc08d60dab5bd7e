"""The command on real songs: Ogg Vorbis from a Debian package, under names with spaces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.model_repo import make_htdemucs_repo

SONGS = Path("/usr/share/planetblupi/music")

pytestmark = pytest.mark.skipif(not SONGS.is_dir(), reason="the Debian package planetblupi-music-ogg is not installed")


def excerpt(song: Path, target: Path, seconds: float) -> Path:
    """The first seconds of a song, its packets as they are."""
    with av.open(str(song)) as source, av.open(str(target), "w") as copy:
        stream = source.streams.audio[0]
        out = copy.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is None or packet.pts * packet.time_base > seconds:
                break
            packet.stream = out
            copy.mux(packet)
    return target


def separate(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demucs_server_worker", "separate", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)


def test_songs_with_spaces_in_their_names_with_the_demo_model(tmp_path: Path) -> None:
    album = tmp_path / "An Album"
    album.mkdir()
    names = {"music000.ogg": "First Song.ogg", "music004.ogg": "Second Song (live).ogg"}
    for song, name in names.items():
        excerpt(SONGS / song, album / name, 8)
    done = separate("An Album", "-n", "demo", "-o", "stems", "--residual", "other", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in names.values():
        (folder,) = (tmp_path / "stems").rglob(Path(name).stem)
        mix, rate = soundfile.read(album / name)
        stems = {path.stem: soundfile.read(path) for path in folder.glob("*.wav")}
        assert set(stems) == {"drums", "bass", "other", "vocals"}
        assert {(each.shape, its_rate) for each, its_rate in stems.values()} == {(mix.shape, rate)}
        manifest = json.loads((folder / "manifest.json").read_text())
        missed = manifest["gain"] * mix - sum(each for each, _ in stems.values())
        assert 10 * np.log10(np.square(missed).sum() / np.square(mix).sum()) < -50


def test_a_song_with_a_local_repository_of_the_published_architecture(tmp_path: Path) -> None:
    repository = make_htdemucs_repo(tmp_path / "models")
    song = excerpt(SONGS / "music005.ogg", tmp_path / "A Song.ogg", 9)
    done = separate(song, "-n", "htdemucs", "--repo", repository, "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mix, _ = soundfile.read(song)
    for stem in ("drums", "bass", "other", "vocals"):
        sound, _ = soundfile.read(tmp_path / "out" / "A Song" / f"{stem}.wav")
        assert sound.shape == mix.shape
        assert np.abs(sound).max() > 0
    assert all(json.loads(line) for line in done.stdout.splitlines())
