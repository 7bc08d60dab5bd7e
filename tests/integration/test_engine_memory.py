"""Memory does not grow with the song: each length in a process of its own, which tells its peak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MB = 1_000_000


def peak_of(kind: str, seconds: int, folder: Path) -> int:
    """Bytes, at most, while a song of `seconds` is separated."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.memory_probe", kind, str(seconds), str(folder)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_half_an_hour_takes_no_more_memory_than_three_minutes(tmp_path: Path) -> None:
    """Through both passes, the raw samples, and encoding again under a common gain.

    Half an hour at 8 kHz is 115 MB as the stereo floats that all steps work on, 104 MB more than three minutes: one
    copy of the song held anywhere is more than twice the 40 MB allowed, and the allocator's own noise (some MB) is
    much less.
    """
    short, long = (peak_of("cheap", seconds, tmp_path / str(seconds)) for seconds in (180, 1_800))
    assert long - short < 40 * MB, f"{short / MB:.0f} MB for 3 minutes, {long / MB:.0f} MB for 30"


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_an_hour_takes_at_most_200_mb_more_than_five_minutes(tmp_path: Path) -> None:
    """With the demo model in CD quality. An hour is 1,270 MB as stereo floats."""
    short, long = (peak_of("demo", seconds, tmp_path / str(seconds)) for seconds in (300, 3_600))
    assert long - short < 200 * MB, f"{short / MB:.0f} MB for 5 minutes, {long / MB:.0f} MB for an hour"
