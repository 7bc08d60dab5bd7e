"""Target 5. The pool loses nothing: a full queue against its forward passes, bare and with as many threads.

    python -m bench.pool [--workers 1 2] [--songs 6] [--seconds 60] [--files SONG…] [--repo FOLDER_WITH_htdemucs]

The workers are warm. Wall time runs from the first `add_task` to the last completion, so that decoding, encoding,
hashing and publishing are within it. Bare passes are measured before and after, since machines are noisy.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench import flags, managers, report, songs
from bench.bare import Bare
from bench.report import Row
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.manager import WorkerManager

MODEL = "htdemucs"
TARGET = 1.05


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    songs.add_flags(parser, songs=2 if report.quick() else 6, seconds=6.0 if report.quick() else 60.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    configure_logging("error")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        files = songs.chosen(arguments, Path(name))
        for workers in arguments.workers:
            rows += _measure(Path(name) / str(workers), files, workers, flags.repository(arguments, MODEL))
    report.write("pool", rows)


def _measure(folder: Path, files: list[Path], workers: int, repo: Path | None) -> list[Row]:
    bare = Bare(MODEL, repo, seconds=1.0 if report.quick() else 8.0)
    setup = bare.setup(workers)
    before = bare.time(setup)
    wall, computed = asyncio.run(_full_queue(folder, files, workers, repo))
    rate = (before.passes_a_second + bare.time(setup).passes_a_second) / 2
    passes = sum(songs.passes(songs.seconds_of(file)) for file in files)
    kind = f"{workers} × {setup.threads} threads, {setup.backend} {setup.precision}"
    return [
        Row(what=f"{kind}: {passes} segments of {len(files)} songs, wall time, s", ours=wall),
        Row(what=f"{kind}: as many bare passes, s", ours=passes / rate),
        Row(what=f"{kind}: wall time ÷ bare passes", ours=wall * rate / passes, target=TARGET),
        Row(what=f"{kind}: share of wall time in forward passes, %", ours=100 * computed / (workers * wall)),
    ]


async def _full_queue(folder: Path, files: list[Path], workers: int, repo: Path | None) -> tuple[float, float]:
    """Wall seconds, and the seconds that all workers computed."""
    settings = managers.settings(folder / "data", model=MODEL, repo=repo, workers=workers)
    async with WorkerManager(settings) as manager:
        await managers.all_idle(manager)
        # As many songs as workers, so that each has computed with the threads that it will have.
        warm = [songs.make(folder / f"warm {n}.wav", 20.0, seed=90 + n) for n in range(workers)]
        await managers.separate_all(manager, warm, folder / "warm up")
        before = sum(worker.compute_seconds for worker in manager.workers())
        begun = time.perf_counter()
        await managers.separate_all(manager, files, folder / "stems")
        wall = time.perf_counter() - begun
        return wall, sum(worker.compute_seconds for worker in manager.workers()) - before


if __name__ == "__main__":
    main()
