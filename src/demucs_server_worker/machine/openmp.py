"""What a process that computes must be told of threads before it starts: the libraries read it when they load."""

from __future__ import annotations

from collections.abc import Mapping


def openmp_environment(own: Mapping[str, str], threads: int) -> dict[str, str]:
    """Variables for a child that computes.

    Its threads sleep while they have nothing to do, unless `own` says otherwise. By default those of GNU's OpenMP spin
    for milliseconds behind each loop, on cores that decoding, encoding or another worker could use, and hold up a
    thread that waits for one of them (docs/decisions.md).

    Args:
        own: variables of this process.
        threads: to compute with.

    Returns:
        `own` and the variables for OpenMP and MKL.
    """
    count = str(threads)
    return {"OMP_WAIT_POLICY": "PASSIVE", **own, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
