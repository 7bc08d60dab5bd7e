"""The worker manager: what it adds to the work itself.

    python -m bench.manager [--repo FOLDER_WITH_htdemucs]

Measures, on real workers: the time from `add_task` on an idle warm pool to the first operation and to the first
forward pass; durable `add_task` a second, one after the other and from fifty callers at once; the share of wall time in
which workers compute while the queue is full; and the manager's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench import report
from demucs_server_worker.events import EventKind
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.manager import WorkerManager

LATENCY_ROUNDS = 40
PUTS = 2_000
CALLERS = 50


def main() -> None:
    """Read the flags, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--repo", type=Path, default=None, help="folder of local models")
    parser.add_argument("--songs", type=int, default=6, help="songs in the full queue")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each")
    arguments = parser.parse_args()
    configure_logging("error")
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(_measure(Path(folder), arguments))
    report.write("manager", rows, model=arguments.model)


async def _measure(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    short, long = folder / "short.wav", folder / "long.wav"
    await asyncio.to_thread(_write_noise, short, 2.0)
    await asyncio.to_thread(_write_noise, long, arguments.seconds)
    rows: list[dict[str, Any]] = []
    settings = {"model": arguments.model, "model_repo": arguments.repo, "shutdown_grace": 0, "max_queued": 10**6}
    async with WorkerManager(data_dir=folder / "pool", max_workers=2, **settings) as manager:
        rows += await _latency(manager, short, folder)
        rows += await _share(manager, long, folder, arguments.songs)
        rows += [_memory("the manager, two idle workers beside it, MB")]
    async with WorkerManager(data_dir=folder / "puts", max_workers=1, preload=False, **settings) as manager:
        rows += await _puts(manager, short, folder)
        rows += [_memory(f"the manager with {2 * PUTS} tasks queued, MB")]
    return rows


def _write_noise(path: Path, seconds: float) -> None:
    """A song in a child process's place: this one is the manager's, and never loads numpy."""
    import array
    import random
    import wave

    generator = random.Random(1)
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        block = array.array("h", (generator.randint(-9_000, 9_000) for _ in range(88_200)))
        for _ in range(int(seconds)):
            file.writeframes(block.tobytes())


async def _latency(manager: WorkerManager, song: Path, folder: Path) -> list[dict[str, Any]]:
    """From add_task to the worker's first word about the task, and to its first forward pass."""
    first_operation: list[float] = []
    first_pass: list[float] = []
    for number in range(LATENCY_ROUNDS + 2):
        events = manager.events()
        begun = time.perf_counter()
        task = await manager.add_task(input_path=song, output_dir=folder / "out")
        heard: list[float] = []
        async for event in events:
            if event.task_id != task.id:
                continue
            if event.kind is EventKind.PROGRESS and event.task is not None:
                now = time.perf_counter() - begun
                if not heard:
                    heard.append(now)
                if event.task.stage == "separating" and len(heard) == 1:
                    heard.append(now)
            if event.kind is EventKind.COMPLETED:
                break
        if number >= 2:  # the first ones warm the worker up
            first_operation.append(heard[0] * 1000)
            first_pass.append(heard[1] * 1000)
    return [
        {"what": "add_task → the worker's first block decoded, ms", **_spread(first_operation), "aim": "10"},
        {"what": "add_task → first forward pass (2 s song, one decoding pass), ms", **_spread(first_pass)},
    ]


async def _share(manager: WorkerManager, song: Path, folder: Path, songs: int) -> list[dict[str, Any]]:
    """Forward passes as a share of the workers' wall time, from the first start to the last completion."""
    before = sum(worker.compute_seconds for worker in manager.workers())
    names = [f"song {n}.wav" for n in range(songs)]
    begun = time.perf_counter()
    tasks = [await manager.add_task(input_path=song, output_dir=folder / "out", input_name=name) for name in names]
    done_at = []
    for task in tasks:
        await manager.wait(task.id)
        done_at.append(time.perf_counter() - begun)
    computed = sum(worker.compute_seconds for worker in manager.workers()) - before
    share = 100 * computed / (len(manager.workers()) * max(done_at))
    return [{"what": f"share of wall time computing, {songs} songs on 2 workers, %", "median": share, "aim": "97"}]


async def _puts(manager: WorkerManager, song: Path, folder: Path) -> list[dict[str, Any]]:
    async def add() -> None:
        await manager.add_task(input_path=song, output_dir=folder / "out")

    begun = time.perf_counter()
    for _ in range(PUTS):
        await add()
    alone = PUTS / (time.perf_counter() - begun)

    async def caller() -> None:
        for _ in range(PUTS // CALLERS):
            await add()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    together = PUTS / (time.perf_counter() - begun)
    return [
        {"what": "durable add_task a second, one after the other", "median": alone},
        {"what": f"durable add_task a second, {CALLERS} callers at once", "median": together, "aim": "1000"},
    ]


def _memory(what: str) -> dict[str, Any]:
    return {"what": what, "median": psutil.Process().memory_info().rss / 1e6, "aim": "120"}


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


if __name__ == "__main__":
    main()
