"""Target 7. The distance to the floor: seconds a segment ÷ (the model's operations ÷ the machine's matrix rate).

    python -m bench.floor [--seconds 10] [--repo FOLDER_WITH_htdemucs]

Operations are counted by torch's FlopCounterMode; the rate is the highest that products of large matrices reach here,
in whichever precision; Demucs' segment is timed in its own functions.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench import flags, report
from bench.bare import Bare
from bench.paths import ROOT
from bench.report import Row
from demucs_server_worker.machine import basics
from demucs_server_worker.measure.figures import Setup

MODEL = "htdemucs"
TARGET = 2.5


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=1.0 if report.quick() else 10.0, help="for each measurement")
    arguments = parser.parse_args()
    repo = flags.repository(arguments, MODEL)
    bare = Bare(MODEL, repo, arguments.seconds)
    machine = bare.machine
    theirs = _demucs_seconds(repo, passes=1 if report.quick() else 5)
    distance = theirs / machine.floor_seconds
    rows = [
        Row(what=f"large matrices in {name}, GFLOP/s", ours=rate / 1e9) for name, rate in machine.matrix_rates.items()
    ]
    rows += [
        Row(what="operations of a segment, GFLOP", ours=machine.operations / 1e9),
        Row(what="the floor: a segment at the highest of these rates, s", ours=machine.floor_seconds),
    ]
    cores = basics.cores()
    chosen = bare.setup(1)
    setups = [chosen, bare.setup(cores), Setup(chosen.backend, "fp32", 1, cores), Setup("torch", "fp32", 1, cores)]
    for setup in dict.fromkeys(setups):
        measured = bare.time(setup)
        kind = f"{setup.backend} {setup.precision}, {setup.workers} × {setup.threads} threads"
        rows += [
            Row(what=f"{kind}: a segment, s", ours=1 / measured.passes_a_second, theirs=theirs,
                ratio=theirs * measured.passes_a_second),
            Row(what=f"{kind}: times the floor", ours=bare.distance(measured), theirs=distance,
                ratio=distance / bare.distance(measured), target=TARGET if setup == chosen else None),
        ]  # fmt: skip
    report.write("floor", rows)


def _demucs_seconds(repo: Path | None, passes: int) -> float:
    command = [sys.executable, "-m", "bench.demucs_pass", MODEL, str(repo or ""), str(basics.cores()), str(passes)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(said.stdout)


if __name__ == "__main__":
    main()
