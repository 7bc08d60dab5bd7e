"""Many clients at once: uploads of small files by many clients, while all workers compute.

    python -m bench.http_load [--uploads 500] [--clients 50] [--workers 2]

Starts the real command with the model `demo`, uploads songs that all differ, and waits for all results, while another
client asks for the status ten times a second. Exit 1 unless every upload has its result and the limits are held.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import wave
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil

from bench import report
from bench.report import Row

API = "/api/v1"
STATUS_EVERY_SECONDS = 0.1
MEMORY_LIMIT_MB = 250.0
STATUS_LIMIT_MS = 100.0


def song(seed: int, seconds: float) -> bytes:
    """A quiet song of noise, another for each seed."""
    samples = np.random.default_rng(seed).normal(0, 1_500, int(8_000 * seconds)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        out.writeframes(samples.tobytes())
    return file.getvalue()


async def upload(client: httpx.AsyncClient, number: int, seconds: float) -> tuple[str, float]:
    """Upload a song; gives the task's id and how long that took."""
    began = time.perf_counter()
    answer = await client.post(f"{API}/tasks", files={"file": (f"song-{number}.wav", song(number, seconds))})
    answer.raise_for_status()
    return answer.json()["id"], time.perf_counter() - began


class Watched(NamedTuple):
    """What was seen of the server meanwhile: seconds of each answer, busy workers at each, most bytes it held."""

    seconds: list[float]
    busy: list[int]
    most_bytes: int


def watch(url: str, pid: int, over: Event, found: Queue[Watched]) -> None:
    """Ask for the status and for the server's memory until `over`. In a process of its own: what the uploading clients
    compute meanwhile is not the server's delay."""
    seconds, busy, most_bytes = [], [], 0
    server = psutil.Process(pid)
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.wait(STATUS_EVERY_SECONDS):
            began = time.perf_counter()
            status = client.get(f"{API}/status").json()
            seconds.append(time.perf_counter() - began)
            busy.append(sum(worker["state"] == "busy" for worker in status["workers"]))
            most_bytes = max(most_bytes, server.memory_info().rss)
    found.put(Watched(seconds, busy, most_bytes))


def watched_load(url: str, pid: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The load and what was seen of the server meanwhile."""
    spawn = multiprocessing.get_context("spawn")
    over, found = spawn.Event(), spawn.Queue()
    watcher = spawn.Process(target=watch, args=(url, pid, over, found))
    watcher.start()
    try:
        figures = asyncio.run(load(url, arguments))
    finally:
        over.set()
    seen: Watched = found.get(timeout=60)
    watcher.join(60)
    return {
        **figures,
        "status_asked": len(seen.seconds),
        "status_p50_seconds": percentile(seen.seconds, 50),
        "status_p99_seconds": percentile(seen.seconds, 99),
        "status_most_seconds": round(max(seen.seconds), 4),
        "all_workers_busy_share": round(sum(busy == arguments.workers for busy in seen.busy) / len(seen.busy), 2),
        "server_most_bytes": seen.most_bytes,
    }


async def load(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Put the load on the server, and see what became of it."""
    began = time.perf_counter()
    limits = httpx.Limits(max_connections=arguments.clients)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        numbers = iter(range(arguments.uploads))
        uploaded: list[tuple[str, float]] = []

        async def one_client() -> None:
            while (number := next(numbers, None)) is not None:
                uploaded.append(await upload(client, number, arguments.seconds))

        await asyncio.gather(*(one_client() for _ in range(arguments.clients)))
        uploading_seconds = time.perf_counter() - began
        states = await ended(client, [task_id for task_id, _ in uploaded])
    return {
        "tasks": len({task_id for task_id, _ in uploaded}),
        "states": {state: list(states.values()).count(state) for state in sorted(set(states.values()))},
        "uploading_seconds": round(uploading_seconds, 2),
        "upload_p50_seconds": percentile([seconds for _, seconds in uploaded], 50),
        "upload_p99_seconds": percentile([seconds for _, seconds in uploaded], 99),
        "all_done_seconds": round(time.perf_counter() - began, 1),
    }


async def ended(client: httpx.AsyncClient, task_ids: list[str]) -> dict[str, str]:
    """The final states of the tasks, once all have one."""
    states: dict[str, str] = {}
    while len(states) < len(task_ids):
        for task_id in task_ids:
            if task_id in states:
                continue
            task = (await client.get(f"{API}/tasks/{task_id}")).json()
            if task["state"] not in ("completed", "failed", "cancelled"):
                break  # they end about in their order
            states[task_id] = task["state"]
        await asyncio.sleep(0.25)
    return states


def percentile(values: list[float], percent: float) -> float:
    """Seconds, to a tenth of a millisecond."""
    return round(float(np.percentile(values, percent)), 4)


def serve(folder: Path, workers: int) -> tuple[subprocess.Popen[str], str]:
    """The command in a process of its own, and its address."""
    command = [sys.executable, "-m", "demucs_server_worker", "serve", "--data-dir", str(folder), "--port", "0",
               "--model", "demo", "--max-workers", str(workers), "--log-format", "json"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "LOG_LEVEL": "info"})
    assert process.stderr is not None
    ready, url = 0, ""
    for line in process.stderr:
        said = json.loads(line)
        url = said["url"] if said["event"] == "serving" else url
        ready += said["event"] == "worker_started"
        if url and ready == workers:
            return process, url
    raise SystemExit("the server did not start")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=500)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a song")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="http-load-") as folder:
        process, url = serve(Path(folder), arguments.workers)
        try:
            # Read on, so that the server's log does not fill its pipe.
            drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            figures = watched_load(url, process.pid, arguments)
        finally:
            process.terminate()
            process.wait(60)
            drain.wait(10)
    rows = rows_of(figures, arguments)
    report.write("http_load", rows, figures=figures)
    return int(any(row.verdict == "missed" for row in rows))


def rows_of(figures: dict[str, Any], arguments: argparse.Namespace) -> list[Row]:
    """The figures as a table, with the targets of some."""
    completed = figures["states"].get("completed", 0) if figures["tasks"] == arguments.uploads else 0
    return [
        Row(what=f"{arguments.uploads} uploads by {arguments.clients} clients: results", ours=completed,
            target=arguments.uploads, at="least"),
        Row(what="most memory of the server, MB", ours=figures["server_most_bytes"] / 1e6, target=MEMORY_LIMIT_MB),
        Row(what="GET /status, ms, 99th percentile", ours=figures["status_p99_seconds"] * 1e3, target=STATUS_LIMIT_MS),
        Row(what="GET /status, ms, median", ours=figures["status_p50_seconds"] * 1e3),
        Row(what="GET /status, ms, worst", ours=figures["status_most_seconds"] * 1e3),
        Row(what="an upload, ms, median", ours=figures["upload_p50_seconds"] * 1e3),
        Row(what="all uploaded, s", ours=figures["uploading_seconds"]),
        Row(what="all separated, s", ours=figures["all_done_seconds"]),
        Row(what="share of the time in which all workers computed, %", ours=figures["all_workers_busy_share"] * 100),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
