"""Throughput by the number of workers: ours with 1, 2 and `auto`, and Demucs alone and with `-j 2`.

python -m bench.workers [--songs 4] [--seconds 30] [--files SONG…] [--repo FOLDER_WITH_htdemucs]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import commands, flags, report, songs
from bench.report import Row
from demucs_server_worker.machine import basics
from demucs_server_worker.sizing import worker_count

MODEL = "htdemucs"


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    songs.add_flags(parser, songs=2 if report.quick() else 4, seconds=6.0 if report.quick() else 30.0)
    arguments = parser.parse_args()
    repo = flags.repository(arguments, MODEL)
    auto = worker_count("auto", cores=basics.cores(), memory_bytes=basics.memory().total, gpus=0)
    bars: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = songs.chosen(arguments, folder)
        audio = sum(map(songs.seconds_of, files))
        commands.warm_up(folder, model=MODEL, repo=repo)
        for jobs in (1, 2):
            ran = commands.demucs(files, folder / f"demucs {jobs}", model=MODEL, repo=repo, more=("-j", str(jobs)))
            bars["Demucs" if jobs == 1 else f"Demucs -j {jobs}"] = audio / ran.seconds
        for jobs in sorted({1, 2, auto}):
            ran = commands.ours(files, folder / f"ours {jobs}", model=MODEL, repo=repo, more=("-j", str(jobs)))
            words = "1 worker" if jobs == 1 else f"{jobs} workers"
            bars[f"{words} (auto)" if jobs == auto else words] = audio / ran.seconds
    theirs = max(rate for name, rate in bars.items() if name.startswith("Demucs"))
    rows = [
        Row(what=f"{name}: seconds of audio a second", ours=rate, theirs=theirs, ratio=rate / theirs)
        for name, rate in bars.items()
    ]
    report.write("workers", rows, bars=bars)


if __name__ == "__main__":
    main()
