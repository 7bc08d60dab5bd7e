"""Target 2. One stem of the fine-tuned bag: `separate --stems vocals` against `demucs --two-stems vocals`.

    python -m bench.one_stem [--songs 2] [--seconds 60] [--files SONG…] [--repo FOLDER_WITH_htdemucs_ft]

Demucs runs the four networks of `htdemucs_ft` and keeps what was asked for; each stem comes from one of them alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import commands, flags, report, songs
from bench.report import Row

MODEL = "htdemucs_ft"
STEM = "vocals"


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    songs.add_flags(parser, songs=1 if report.quick() else 2, seconds=8.0 if report.quick() else 60.0)
    arguments = parser.parse_args()
    repo = flags.repository(arguments, MODEL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = songs.chosen(arguments, folder)
        ours, theirs = folder / "ours", folder / "demucs"
        commands.warm_up(folder, model=MODEL, repo=repo, more=("--stems", STEM))
        own = commands.ours(files, ours, model=MODEL, repo=repo, more=("--stems", STEM))
        other = commands.demucs(files, theirs, model=MODEL, repo=repo, more=("--two-stems", STEM))
        seconds = sum(map(songs.seconds_of, files))
        agreement = commands.worst_agreement(files, ours, theirs, [STEM])
    rows = [
        Row(what=f"{STEM} of {seconds:.0f} s of audio, {MODEL}: wall time, s", ours=own.seconds, theirs=other.seconds,
            ratio=other.seconds / own.seconds, target=10.0, of="ratio", at="least"),
        Row(what="peak memory of all processes, MB", ours=own.peak_bytes / 1e6, theirs=other.peak_bytes / 1e6,
            ratio=other.peak_bytes / own.peak_bytes),
        Row(what=f"{STEM} against that of Demucs, worst, dB", ours=agreement, target=40.0, at="least"),
    ]  # fmt: skip
    report.write("one_stem", rows)


if __name__ == "__main__":
    main()
