"""Many clients at once: uploads of small files by many clients, while all workers compute.

    python -m bench.http_load [--uploads 500] [--clients 50] [--workers 2]

Starts the real command with the model `demo`, uploads songs that all differ, and waits for all results, while another
client asks for the status ten times a second. Exit 1 unless every upload has its result.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

API = "/api/v1"
STATUS_EVERY_SECONDS = 0.1
MEMORY_LIMIT_BYTES = 250_000_000
STATUS_LIMIT_SECONDS = 0.1


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


class Watch:
    """Asks for the status and for the server's memory until it is stopped."""

    def __init__(self, url: str, pid: int) -> None:
        self.seconds: list[float] = []
        self.most_bytes = 0
        self.busy: list[int] = []
        self._url = url
        self._process = psutil.Process(pid)
        self._over = asyncio.Event()

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            while not self._over.is_set():
                began = time.perf_counter()
                status = (await client.get(f"{API}/status")).json()
                self.seconds.append(time.perf_counter() - began)
                self.busy.append(sum(worker["state"] == "busy" for worker in status["workers"]))
                self.most_bytes = max(self.most_bytes, self._process.memory_info().rss)
                await asyncio.sleep(STATUS_EVERY_SECONDS)

    def stop(self) -> None:
        self._over.set()


async def load(url: str, pid: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Put the load on the server, and see what became of it."""
    watch = Watch(url, pid)
    watching = asyncio.create_task(watch.run())
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
    watch.stop()
    await watching
    return {
        "uploads": arguments.uploads,
        "clients": arguments.clients,
        "tasks": len({task_id for task_id, _ in uploaded}),
        "states": {state: list(states.values()).count(state) for state in sorted(set(states.values()))},
        "uploading_seconds": round(uploading_seconds, 2),
        "upload_p50_seconds": percentile([seconds for _, seconds in uploaded], 50),
        "upload_p99_seconds": percentile([seconds for _, seconds in uploaded], 99),
        "all_done_seconds": round(time.perf_counter() - began, 1),
        "status_asked": len(watch.seconds),
        "status_p50_seconds": percentile(watch.seconds, 50),
        "status_p99_seconds": percentile(watch.seconds, 99),
        "status_most_seconds": round(max(watch.seconds), 4),
        "all_workers_busy_share": round(sum(busy == arguments.workers for busy in watch.busy) / len(watch.busy), 2),
        "server_most_mb": round(watch.most_bytes / 1e6, 1),
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
            figures = asyncio.run(load(url, process.pid, arguments))
        finally:
            process.terminate()
            process.wait(60)
            drain.wait(10)
    print(json.dumps(figures, indent=2))
    return 0 if figures["states"] == {"completed": arguments.uploads} == {"completed": figures["tasks"]} else 1


if __name__ == "__main__":
    sys.exit(main())
