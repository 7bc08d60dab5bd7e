"""`python -m bench.decoding SONG TIMES`: the seconds of each of so many decoding passes, as JSON. For first_work."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from demucs_server_worker.separation.decode import open_source
from demucs_server_worker.separation.scan import scan


def main() -> None:
    """Do the first pass over a song again and again, as a worker does it before the first forward pass."""
    song, times = Path(sys.argv[1]), int(sys.argv[2])
    torch.zeros(1)  # a worker has it loaded
    taken = []
    for _ in range(times + 2):
        begun = time.perf_counter()
        with open_source(song, song.name) as source:
            scan(source, 44_100, lambda samples: None)
        taken.append(time.perf_counter() - begun)
    print(json.dumps(taken[2:]))


if __name__ == "__main__":
    main()
