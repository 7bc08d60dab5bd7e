"""What the benches compute from what they measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bench import commands, pictures, report, songs
from bench.all import NAMES
from bench.report import Row
from demucs_server_worker.separation.segments import plan

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row(what="", ratio=3.0, target=3.0, of="ratio", at="least"), "met"),
        (Row(what="", ours=9.0, ratio=2.9, target=3.0, of="ratio", at="least"), "missed"),
        (Row(what="", ours=1.06, target=1.05), "missed"),
        (Row(what="", ours=1.05, target=1.05), "met"),
        (Row(what="", ours=1.0), ""),
    ],
)
def test_a_figure_meets_its_target_or_misses_it(row: Row, verdict: str) -> None:
    assert row.verdict == verdict


def test_what_is_written_says_where_it_was_measured_and_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    row = Row(what="wall time, s", ours=2.0, theirs=8.0, ratio=4.0, target=3.0, of="ratio", at="least")
    path = report.write("try", [row], bars={"a": 1.0})
    assert "wall time, s" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["rows"][0]["verdict"] == "met"
    assert written["bars"] == {"a": 1.0}
    assert {"processor", "cores", "memory_bytes", "commit", "versions", "when"} <= written["facts"].keys()
    assert report.rows_of(report.read("try") or {}) == [row]
    assert report.read("never") is None


@pytest.mark.parametrize("seconds", [0.5, 5.85, 6.0, 60.0, 240.0, 3600.0])
def test_passes_are_counted_as_the_engine_cuts_songs(seconds: float) -> None:
    cut = plan(round(seconds * songs.RATE_HZ), songs.SEGMENT_SAMPLES, songs.OVERLAP)
    assert songs.passes(seconds) == cut.count


def test_agreement_is_the_stem_over_its_difference(tmp_path: Path) -> None:
    stem = np.random.default_rng(1).standard_normal((1000, 2)) * 0.1
    soundfile.write(tmp_path / "expected.wav", stem, 44_100, subtype="FLOAT")
    soundfile.write(tmp_path / "got.wav", stem * 1.01, 44_100, subtype="FLOAT")
    assert commands.agreement(tmp_path / "got.wav", tmp_path / "expected.wav") == pytest.approx(40, abs=0.01)


def test_a_made_song_is_the_same_each_time_and_as_long_as_wanted(tmp_path: Path) -> None:
    one, two = (songs.make(tmp_path / name / "song.wav", 1.5, seed=3) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert songs.seconds_of(one) == 1.5


def test_pictures_are_drawn_from_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"cores": 2, "quick": False}
    points = [{"who": who, "minutes": m, "bytes": m * 1e9} for who in ("Demucs", "ours") for m in (1, 5)]
    results: dict[str, Any] = {
        "workers": {"facts": facts, "bars": {"Demucs": 1.0, "2 workers (auto)": 3.5}},
        "memory": {"facts": facts, "points": points},
        "timeline": {
            "facts": facts,
            "marks": {"started": [10.0], "completed": [14.0]},
            "spans": [{"lane": lane, "from": 10.0, "to": 13.5} for lane in ("model", "encode", "hash")],
            "rows": [{"what": "share of it in forward passes, %", "ours": 87.5}],
        },
    }  # fmt: skip
    monkeypatch.setattr(report, "read", results.get)
    monkeypatch.setattr(pictures, "IMAGES", tmp_path / "images")
    pictures.main()
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "memory.png",
        "timeline.png",
        "workers.png",
    ]
    assert all(path.read_bytes()[1:4] == b"PNG" for path in (tmp_path / "images").iterdir())


def test_no_picture_is_drawn_of_a_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"workers": {"facts": {"cores": 2, "quick": True}, "bars": {"Demucs": 1.0}}}
    monkeypatch.setattr(report, "read", quick.get)
    monkeypatch.setattr(pictures, "IMAGES", tmp_path)
    pictures.main()
    assert list(tmp_path.iterdir()) == []


def test_publishing_lasts_from_the_last_hash_to_completed() -> None:
    spans = [{"lane": "hash", "from": 1.0, "to": end} for end in (2.0, 3.0, 8.0)]
    found = pictures._publishing(spans, [3.5, 8.25])
    assert [(span["from"], span["to"]) for span in found] == [(3.0, 3.5), (8.0, 8.25)]


def test_every_measurement_has_a_make_target_and_stands_in_the_docs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    docs = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert (ROOT / "bench" / f"{name}.py").exists()
        assert f"\nbench-{name.replace('_', '-')}: " in makefile
        assert f"`make bench-{name.replace('_', '-')}" in docs, name
