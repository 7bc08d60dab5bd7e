"""Target 6. First work: from `add_task` on an idle warm pool to the first forward pass, beyond one decoding pass.

    python -m bench.first_work [--rounds 20] [--seconds 30] [--model htdemucs] [--repo FOLDER_WITH_htdemucs]

The song is decoded once before, since Demucs normalises by two numbers of the whole song; how long that takes is
measured in a process of its own. Each task is cancelled once its first pass has begun.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import flags, managers, report, songs
from bench.paths import ROOT
from bench.report import Row
from demucs_server_worker.events import EventKind
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.task import Stage

TARGET_MS = 50.0


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    parser.add_argument("--model", default="htdemucs", help="htdemucs, or demo")
    parser.add_argument("--rounds", type=int, default=3 if report.quick() else 20)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the song")
    arguments = parser.parse_args()
    configure_logging("error")
    with tempfile.TemporaryDirectory() as name:
        song = songs.make(Path(name) / "song.wav", arguments.seconds)
        decoding = _decoding_ms(song, arguments.rounds)
        heard, first = asyncio.run(_latencies(Path(name), song, arguments))
    beyond = statistics.median(first) - statistics.median(decoding)
    rows = [
        Row(what="add_task → the worker's first word about it, ms, median", ours=statistics.median(heard)),
        Row(what="add_task → first forward pass, ms, median", ours=statistics.median(first)),
        Row(what="one decoding pass alone, ms, median", ours=statistics.median(decoding)),
        Row(what="first forward pass beyond one decoding pass, ms", ours=beyond, target=TARGET_MS),
        Row(what="add_task → first forward pass, ms, worst", ours=max(first)),
    ]
    report.write("first_work", rows, model=arguments.model, seconds=arguments.seconds)


def _decoding_ms(song: Path, rounds: int) -> list[float]:
    command = [sys.executable, "-m", "bench.decoding", str(song), str(rounds)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return [1000 * seconds for seconds in json.loads(said.stdout)]


async def _latencies(
    folder: Path, song: Path, arguments: argparse.Namespace
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Milliseconds to the worker's first progress, and to the first forward pass, of each round."""
    repo = None if arguments.model == "demo" else flags.repository(arguments, arguments.model)
    settings = managers.settings(folder / "data", model=arguments.model, repo=repo, workers=2)
    heard, first = [], []
    async with WorkerManager(settings) as manager:
        await managers.all_idle(manager)
        for number in range(arguments.rounds + 2):
            one, two = await _round(manager, song, folder / "out")
            await managers.all_idle(manager)
            if number >= 2:  # the first ones warm the worker up
                heard.append(1000 * one)
                first.append(1000 * two)
    return heard, first


async def _round(manager: WorkerManager, song: Path, out: Path) -> tuple[float, float]:
    events = manager.events()
    begun = time.perf_counter()
    task = await manager.add_task(input_path=song, output_dir=out)
    heard = None
    async for event in events:
        if event.task_id != task.id or event.kind is not EventKind.PROGRESS or event.task is None:
            continue
        heard = heard or time.perf_counter() - begun
        if event.task.stage is Stage.SEPARATING:
            break
    first = time.perf_counter() - begun
    await manager.cancel(task.id)
    return heard or first, first


if __name__ == "__main__":
    main()
