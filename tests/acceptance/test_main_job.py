"""The main job once, as `make worker-test` runs it: a song goes into the queue, a server separates it, the stems are
what they should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import soundfile

from demucs_server_worker.demo.files import score_song, write_song
from demucs_server_worker.task import TaskState
from tests.servers import Server, enqueue, until_state

SECONDS = 4.0
SEED = 900_101  # the model was trained on seeds below 100,000
STEMS = {"drums", "bass", "other", "vocals"}


def test_a_song_becomes_its_stems(tmp_path: Path) -> None:
    data = tmp_path / "data"
    mix, truth = write_song(tmp_path, "song", SEED, SECONDS)
    task = enqueue(data, mix, tmp_path / "stems", project_name="Check", file_id="check-1")
    with Server(data) as server:
        done = until_state(data, task, TaskState.COMPLETED)
        server.tell()
        assert server.ended() == 0
    source = soundfile.info(mix)
    paths = {stem.name: Path(stem.path) for stem in done.stems}
    assert paths.keys() == STEMS
    for stem in done.stems:
        written = soundfile.info(stem.path)
        assert (written.samplerate, written.frames, written.channels) == (source.samplerate, source.frames, 2)
        assert Path(stem.path) == tmp_path / "stems" / "Check" / "song" / f"{stem.name}.wav"
        assert hashlib.sha256(Path(stem.path).read_bytes()).hexdigest() == stem.sha256
    scores = score_song(truth, paths)
    for name in STEMS:
        assert scores.stems[name] > scores.mix[name] + 1.0, f"{name} is hardly better than the mix: {scores}"
