"""Target 3. Short clips: one `separate` for all of them against one `demucs` process a clip.

python -m bench.clips [--songs 30] [--seconds 10] [--files CLIP…] [--repo FOLDER_WITH_htdemucs]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import commands, flags, report, songs
from bench.report import Row

MODEL = "htdemucs"


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    songs.add_flags(parser, songs=2 if report.quick() else 30, seconds=5.0 if report.quick() else 10.0)
    arguments = parser.parse_args()
    repo = flags.repository(arguments, MODEL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = songs.chosen(arguments, folder)
        commands.warm_up(folder, model=MODEL, repo=repo)
        own = commands.ours(files, folder / "ours", model=MODEL, repo=repo)
        each = [commands.demucs([file], folder / "demucs", model=MODEL, repo=repo) for file in files]
    theirs = sum(ran.seconds for ran in each)
    rows = [
        Row(what=f"{len(files)} clips: wall time, s", ours=own.seconds, theirs=theirs, ratio=theirs / own.seconds,
            target=6.0, of="ratio", at="least"),
        Row(what="a clip, s", ours=own.seconds / len(files), theirs=theirs / len(files)),
    ]  # fmt: skip
    report.write("clips", rows)


if __name__ == "__main__":
    main()
