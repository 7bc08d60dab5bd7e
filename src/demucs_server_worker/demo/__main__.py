"""`python -m demucs_server_worker.demo`: makes songs and scores stems for the command `demo`.

That command must not load numpy, so it runs this as a child. Each song in, each song out: one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from demucs_server_worker.demo.files import score_song, write_song


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m demucs_server_worker.demo", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("make", help="synthesise songs: mix and true stems; prints where they are")
    make.add_argument("folder", type=Path)
    make.add_argument("--seeds", required=True, help="one song each, separated by commas")
    make.add_argument("--seconds", type=float, required=True)
    verbs.add_parser("score", help="reads objects with truth and stems, prints the SDR of each stem in dB")
    arguments = parser.parse_args()
    if arguments.verb == "make":
        _make(arguments.folder, [int(seed) for seed in arguments.seeds.split(",")], arguments.seconds)
    else:
        _score()


def _make(folder: Path, seeds: list[int], seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds, start=1):
        mix, truth = write_song(folder, f"song {number}", seed, seconds)
        _say({"seed": seed, "mix": str(mix), "truth": str(truth)})


def _score() -> None:
    for line in sys.stdin:
        song = json.loads(line)
        scores = score_song(Path(song["truth"]), {stem: Path(path) for stem, path in song["stems"].items()})
        _say({"stems": _finite(scores.stems), "mix": _finite(scores.mix)})


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity and no not-a-number: a silent or an exact stem has no figure."""
    return {stem: round(value, 3) if math.isfinite(value) else None for stem, value in figures.items()}


def _say(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
