"""Target 4. Memory by the length of the song: the peak of one worker, by backend, and of Demucs' command beside it.

    python -m bench.memory [--minutes 5 60] [--backends openvino torch] [--model htdemucs] [--demucs 5 20]
                           [--add]

Each length gets a worker of its own, which is asked for its peak when the song is done; Demucs a process. It takes as
long as separating all of that: with `--model demo`, whose passes cost little, minutes. Demucs is not run where what it
took for a shorter song says that it would need more than half of the memory that is free. What takes hours in one go
can be measured in several, with `--add`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from bench import flags, managers, report, seeded, songs
from bench.report import Row
from demucs_server_worker.logs import configure_logging
from demucs_server_worker.manager import WorkerManager

LIMITS_MB = {"openvino": 1000.0, "torch": 1500.0}
GROWTH_MB = 200.0


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    short = report.quick()
    parser.add_argument("--model", default="htdemucs", help="htdemucs, or demo")
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.1, 0.2] if short else [5, 60])
    parser.add_argument(
        "--demucs", type=float, nargs="*", default=[0.1] if short else [5, 20], help="minutes for Demucs"
    )
    parser.add_argument("--backends", nargs="*", default=["openvino", "torch"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--add", action="store_true", help="keep what the last run measured and this one does not")
    arguments = parser.parse_args()
    configure_logging("error")
    with tempfile.TemporaryDirectory() as folder:
        rows, points = _measure(Path(folder), arguments)
    name = "memory" if arguments.model == "htdemucs" else f"memory_{arguments.model}"
    if arguments.add and (earlier := report.read(name)) is not None:
        measured = [(point["who"], point["minutes"]) for point in points]
        points = [each for each in earlier["points"] if (each["who"], each["minutes"]) not in measured] + points
    report.write(name, rows, model=arguments.model, points=points)


def _measure(folder: Path, arguments: argparse.Namespace) -> tuple[list[Row], list[dict[str, float | str]]]:
    points: list[dict[str, float | str]] = []
    theirs = dict(_theirs(folder, arguments))
    points += [{"who": "Demucs", "minutes": minutes, "bytes": peak} for minutes, peak in theirs.items()]
    rows = []
    for backend in arguments.backends:
        peaks = {minutes: _ours(folder, arguments, backend, minutes) for minutes in arguments.minutes}
        points += [{"who": f"ours, {backend}", "minutes": minutes, "bytes": peak} for minutes, peak in peaks.items()]
        limit = LIMITS_MB.get(backend) if arguments.model == "htdemucs" else None
        rows += [
            Row(what=f"{arguments.model}, {backend}, {minutes:g} min: peak of a worker, MB", ours=peak / 1e6,
                theirs=theirs[minutes] / 1e6 if minutes in theirs else None, target=limit,
                ratio=theirs[minutes] / peak if minutes in theirs else None)
            for minutes, peak in peaks.items()
        ]  # fmt: skip
        shortest, longest = min(peaks), max(peaks)
        growth = (peaks[longest] - peaks[shortest]) / 1e6
        rows.append(
            Row(what=f"{backend}: from {shortest:g} to {longest:g} min, MB more", ours=growth, target=GROWTH_MB)
        )
    rows += [
        Row(what=f"Demucs, {minutes:g} min: peak, MB", theirs=peak / 1e6)
        for minutes, peak in theirs.items()
        if minutes not in arguments.minutes
    ]
    return rows, points


def _ours(folder: Path, arguments: argparse.Namespace, backend: str, minutes: float) -> int:
    """The peak of a worker that was started for this song alone."""
    song = _song(folder, minutes)
    return asyncio.run(_peak_of_worker(folder / f"{backend} {minutes}", arguments, backend, song))


async def _peak_of_worker(folder: Path, arguments: argparse.Namespace, backend: str, song: Path) -> int:
    repo = None if arguments.model == "demo" else flags.repository(arguments, arguments.model)
    settings = managers.settings(
        folder, model=arguments.model, repo=repo, workers=1, backend=backend, precision=arguments.precision,
        worker_memory=64 * 2**30,
    )  # fmt: skip
    async with WorkerManager(settings) as manager:
        await managers.separate_all(manager, [song], folder / "stems")
        (worker,) = manager.workers()
        peak = peak_of(worker.pid or 0)
    for stem in (folder / "stems").rglob("*.wav"):
        stem.unlink()
    return peak


def peak_of(pid: int) -> int:
    """The most memory that a running process ever held: the kernel keeps count."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _theirs(folder: Path, arguments: argparse.Namespace) -> list[tuple[float, int]]:
    """(minutes, peak) of Demucs' command, as far as the memory goes."""
    measured: list[tuple[float, int]] = []
    repo = _repository_for_demucs(folder, arguments)
    for minutes in sorted(arguments.demucs):
        if measured and measured[-1][1] * minutes / measured[-1][0] > psutil.virtual_memory().available / 2:
            break
        where = ["--repo", str(repo)] if repo else []
        command = [sys.executable, "-m", "demucs", "-n", arguments.model, *where, "--shifts", "0", "-o",
                   str(folder / "demucs"), str(_song(folder, minutes))]  # fmt: skip
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise RuntimeError(f"demucs ended with {status} on {minutes:g} minutes")
        measured.append((minutes, usage.ru_maxrss * 1024))
    return measured


def _repository_for_demucs(folder: Path, arguments: argparse.Namespace) -> Path | None:
    """Demucs reads folders of pickles only, so that `demo` is written as one."""
    if arguments.model != "demo":
        return flags.repository(arguments, arguments.model)
    from demucs_server_worker.separation.models import load_model

    return seeded.save_bag(folder / "demo", "demo", {"de300000": load_model("demo").network(0)}, form="th")


def _song(folder: Path, minutes: float) -> Path:
    path = folder / f"{minutes:g} minutes.wav"
    return path if path.exists() else songs.make(path, 60 * minutes)


if __name__ == "__main__":
    main()
