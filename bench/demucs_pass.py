"""`python -m bench.demucs_pass MODEL REPO THREADS PASSES`: seconds a segment inside Demucs. A child of bench.floor."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from demucs.apply import apply_model
from demucs.pretrained import get_model

from bench.songs import OVERLAP, SEGMENT_SAMPLES


def main() -> None:
    """Separate so many segments with Demucs' own functions, as its command does, after one to warm up."""
    name, repo, threads, passes = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = get_model(name, Path(repo) if repo else None)
    stride = int((1 - OVERLAP) * SEGMENT_SAMPLES)

    def seconds(count: int) -> float:
        mix = torch.randn(1, 2, count * stride)
        begun = time.perf_counter()
        apply_model(model, mix, shifts=0, split=True, overlap=OVERLAP, progress=False)
        return time.perf_counter() - begun

    seconds(1)
    print(seconds(int(passes)) / int(passes))


if __name__ == "__main__":
    main()
