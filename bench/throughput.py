"""Target 1. A batch of songs: `separate` against the command of Demucs, on the same files and weights.

    python -m bench.throughput [--songs 2] [--seconds 60] [--files SONG…] [--repo FOLDER_WITH_htdemucs]

One after the other, in the same run: Demucs; ours in fp32; ours with precision `auto`. Processes start, import and
load within the time, as they do for a user; converting a model for OpenVINO, which happens once a machine, is done
before. Then how far our stems are from those of Demucs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import commands, flags, report, songs
from bench.report import Row

MODEL = "htdemucs"
TARGETS = {"auto": 3.0, "fp32": 1.3}
AGREEMENT_DB = {"auto": 40.0, "fp32": 90.0}


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    songs.add_flags(parser, songs=1 if report.quick() else 2, seconds=8.0 if report.quick() else 60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure(Path(folder), arguments)
    report.write("throughput", rows)


def _measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    repo = flags.repository(arguments, MODEL)
    files = songs.chosen(arguments, folder)
    audio = sum(map(songs.seconds_of, files))
    commands.warm_up(folder, model=MODEL, repo=repo)
    theirs = commands.demucs(files, folder / "demucs", model=MODEL, repo=repo)
    rows = []
    for precision in ("fp32", "auto"):
        out = folder / precision
        ours = commands.ours(files, out, model=MODEL, repo=repo, more=("--precision", precision))
        rows += [
            Row(
                what=f"{len(files)} songs, {audio:.0f} s of audio, {precision}: wall time, s",
                ours=ours.seconds, theirs=theirs.seconds, ratio=theirs.seconds / ours.seconds,
                target=TARGETS[precision], of="ratio", at="least",
            ),
            Row(
                what=f"{precision}: peak memory of all processes, MB",
                ours=ours.peak_bytes / 1e6, theirs=theirs.peak_bytes / 1e6, ratio=theirs.peak_bytes / ours.peak_bytes,
            ),
            Row(
                what=f"{precision}: stems against those of Demucs, worst, dB",
                ours=commands.worst_agreement(files, out, folder / "demucs"),
                target=AGREEMENT_DB[precision], at="least",
            ),
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
