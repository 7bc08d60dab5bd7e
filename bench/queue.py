"""Target 8. The queue: durable `add_task` a second, and the time of a claim with 100,000 tasks queued.

    python -m bench.queue [--puts 2000] [--callers 50] [--queued 100000] [--claims 500]

`add_task` is the manager's, with the disk waited for; callers at once share that wait. A claim is the queue's own.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil

from bench import managers, report, songs
from bench.report import Row
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.machine.gpus import Gpus
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.task import TaskRequest
from demucs_server_worker.workforce import local_pool

BATCH = 1_000


def main() -> None:
    """Read the flags, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    short = report.quick()
    parser.add_argument("--puts", type=int, default=200 if short else 2_000)
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--queued", type=int, default=2_000 if short else 100_000)
    parser.add_argument("--claims", type=int, default=50 if short else 500)
    arguments = parser.parse_args()
    configure_logging("error")
    with tempfile.TemporaryDirectory() as folder:
        rows = [*asyncio.run(_puts(Path(folder), arguments)), *_claims(Path(folder), arguments)]
    report.write("queue", rows)


async def _puts(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    song = songs.make(folder / "song.wav", 1.0)
    settings = managers.settings(folder / "data", model="demo", repo=None, workers=1, preload=False)
    pool = local_pool(settings, Gpus(), lambda event: None)
    # A worker that never is ready, so that nothing but the queue is at work.
    pool._config = replace(pool._config, command=("sleep", "600"))
    async with WorkerManager(settings, pool=pool) as manager:

        async def add(count: int) -> None:
            for _ in range(count):
                await manager.add_task(input_path=song, output_dir=folder / "out")

        begun = time.perf_counter()
        await add(arguments.puts)
        alone = arguments.puts / (time.perf_counter() - begun)
        begun = time.perf_counter()
        each = max(1, arguments.puts // arguments.callers)
        await asyncio.gather(*(add(each) for _ in range(arguments.callers)))
        together = each * arguments.callers / (time.perf_counter() - begun)
        memory = psutil.Process().memory_info().rss / 1e6
    return [
        Row(what="durable add_task a second, one after the other", ours=alone),
        Row(what=f"durable add_task a second, {arguments.callers} callers at once", ours=together, target=1000.0,
            at="least"),
        Row(what=f"memory of this process with {2 * arguments.puts:,} tasks queued, MB", ours=memory),
    ]  # fmt: skip


def _claims(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    queue = TaskQueue(folder / "full.db")
    request = TaskRequest.parse({"input_path": str(folder / "song.wav"), "output_dir": str(folder / "out")})
    for _ in range(arguments.queued // BATCH):
        queue.put_all([request] * BATCH, now=time.time(), max_attempts=3, max_queued=10**7)
    taken = []
    for number in range(arguments.claims):
        begun = time.perf_counter()
        queue.claim(worker_id=f"worker-{number}", now=time.time())
        taken.append(1000 * (time.perf_counter() - begun))
    queue.close()
    return [
        Row(what=f"a claim with {arguments.queued:,} queued, ms, median", ours=statistics.median(taken), target=5.0),
        Row(what="a claim, ms, 99th percentile", ours=statistics.quantiles(taken, n=100)[98]),
    ]


if __name__ == "__main__":
    main()
