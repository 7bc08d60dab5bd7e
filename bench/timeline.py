"""A worker through three songs: when it decodes, computes, encodes, and when the manager publishes. From real events.

    python -m bench.timeline [--songs 3] [--seconds 30] [--files SONG…] [--model htdemucs] [--repo FOLDER_WITH_htdemucs]

The worker is a real one with a stopwatch around its steps (bench.traced_worker); publishing is the time from the end of
its last step to the manager's `completed`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import flags, managers, report, songs
from bench.paths import ROOT
from bench.report import Row
from demucs_server_worker.events import EventKind
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.machine.gpus import Gpus
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.workforce import local_pool


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    parser.add_argument("--model", default="htdemucs", help="htdemucs, or demo")
    songs.add_flags(parser, songs=3, seconds=6.0 if report.quick() else 30.0)
    arguments = parser.parse_args()
    configure_logging("error")
    with tempfile.TemporaryDirectory() as name:
        spans, marks = asyncio.run(_through(Path(name), arguments))
    begun, ended = marks["started"][0], marks["completed"][-1]
    inside = [each for each in spans if begun <= each["from"] and each["to"] <= ended]
    computing = sum(each["to"] - each["from"] for each in inside if each["lane"] == "model")
    rows = [
        Row(what=f"{len(marks['completed'])} songs on one worker, wall time, s", ours=ended - begun),
        Row(what="share of it in forward passes, %", ours=100 * computing / (ended - begun)),
    ]
    report.write("timeline", rows, spans=inside, marks=marks)


async def _through(
    folder: Path, arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:  # fmt: skip
    trace = folder / "trace.jsonl"
    os.environ["BENCH_TRACE"] = str(trace)
    os.environ["PYTHONPATH"] = str(ROOT)
    files = songs.chosen(arguments, folder)
    repo = None if arguments.model == "demo" else flags.repository(arguments, arguments.model)
    settings = managers.settings(folder / "data", model=arguments.model, repo=repo, workers=1)
    pool = local_pool(settings, Gpus(), lambda event: None)
    # Exactly the pool of the settings, but for the stopwatch.
    pool._config = replace(pool._config, command=(sys.executable, "-m", "bench.traced_worker"))
    async with WorkerManager(settings, pool=pool) as manager:
        await managers.all_idle(manager)
        warm = songs.make(folder / "warm.wav", 8.0, seed=90)
        await managers.separate_all(manager, [warm], folder / "warm up")
        events = manager.events()
        await managers.separate_all(manager, files, folder / "stems")
        marks: dict[str, list[float]] = {"started": [], "completed": []}
        async for event in events:
            if event.kind in (EventKind.STARTED, EventKind.COMPLETED):
                marks[event.kind.value].append(event.at)
            if len(marks["completed"]) == len(files):
                break
    return [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()], marks


if __name__ == "__main__":
    main()
