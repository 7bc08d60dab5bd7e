"""All measurements, one after the other, then the pictures, and what became of the targets: `python -m bench.all`.

It takes two hours or so, most of them for the memory of long songs.
"""

from __future__ import annotations

import subprocess
import sys

from bench import report
from bench.paths import ROOT

NAMES = ("throughput", "one_stem", "clips", "memory", "pool", "first_work", "floor", "queue", "workers", "timeline")


def main() -> int:
    """Run them; gives the number of those that could not be measured."""
    failed = [name for name in NAMES if _run(name) != 0]
    subprocess.run([sys.executable, "-m", "bench.pictures"], cwd=ROOT, check=True)
    results = {name: result for name in NAMES if name not in failed and (result := report.read(name)) is not None}
    report.show("targets", [row for result in results.values() for row in report.rows_of(result) if row.verdict])
    if failed:
        print(f"could not be measured: {', '.join(failed)}")
    return len(failed)


def _run(name: str) -> int:
    return subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
