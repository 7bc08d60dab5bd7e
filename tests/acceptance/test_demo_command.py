"""`demucs-server-worker demo`: songs are made, separated by two workers, and scored against the truth."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import soundfile

from demucs_server_worker.demo.sdr import sdr
from tests.command import STEMS, alive, family_of, files_below, objects, result_files, run, started


def test_kept_songs_and_stems_are_what_the_figures_were_computed_from(tmp_path: Path) -> None:
    ran = run("demo", "--songs", "2", "--seconds", "4", "-o", "kept", "--json", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    kept = tmp_path / "kept"
    truth = [f"truth/song {number}/{stem}.wav" for number in (1, 2) for stem in STEMS]
    stems = result_files("stems/song 1", "stems/song 2")
    assert files_below(kept) == sorted(["song 1.wav", "song 2.wav", *truth, *stems])
    told = objects(ran.stdout)
    scores = [each for each in told if each["event"] == "score"]
    assert [score["song"] for score in scores] == ["song 1", "song 2"]
    for score in scores:
        mix, _ = soundfile.read(kept / f"{score['song']}.wav")
        for stem in STEMS:
            true, _ = soundfile.read(kept / "truth" / score["song"] / f"{stem}.wav")
            separated, _ = soundfile.read(kept / "stems" / score["song"] / f"{stem}.wav")
            assert score["sdr"][stem] == pytest.approx(sdr(true, separated), abs=0.05)
            assert score["mixSdr"][stem] == pytest.approx(sdr(true, mix), abs=0.05)
            assert score["gain"][stem] == pytest.approx(score["sdr"][stem] - score["mixSdr"][stem])
            assert score["gain"][stem] > 0
    assert told[-1]["event"] == "median"
    assert told[-1]["sdr"]["bass"] == pytest.approx((scores[0]["sdr"]["bass"] + scores[1]["sdr"]["bass"]) / 2)


def test_without_a_folder_nothing_stays_and_the_next_command_is_named(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    ran = run("demo", "--songs", "1", "--seconds", "3", cwd=tmp_path, TMPDIR=str(temporary))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert files_below(tmp_path) == []
    figure = r"-?[\d.]+ dB \([+-][\d.]+\)"
    assert re.search(rf"^song 1: drums {figure}, bass {figure}, other {figure}, vocals {figure}$", ran.stdout, re.M)
    assert "it is for trying and testing" in ran.stdout
    assert "Real music wants htdemucs" in ran.stdout
    assert "    demucs-server-worker separate YOUR_SONG.mp3" in ran.stdout


def test_stopping_it_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with started("demo", "--songs", "2", "--seconds", "30", "--json", cwd=tmp_path, TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        assert objects(process.stdout.readline())[0]["event"] == "started"
        family = family_of(process)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
        assert alive(family) == []
    assert files_below(temporary) == []


@pytest.mark.slow
def test_the_bundled_model_separates_songs_that_no_training_ever_saw(tmp_path: Path) -> None:
    """The published figures: 20 songs of 10 s. The bounds are what the model is shipped for (docs/demo-model.md)."""
    ran = run("demo", "--held-out", "--json", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    told = objects(ran.stdout)
    assert len([each for each in told if each["event"] == "score"]) == 20
    median = told[-1]
    assert median["event"] == "median"
    for stem in STEMS:
        assert median["sdr"][stem] >= 5.0
        assert median["gain"][stem] >= 10.0
