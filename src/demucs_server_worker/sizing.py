"""How many workers, on which devices, with how many threads each. Pure arithmetic over what the machine has."""

from __future__ import annotations

# Workers of one thread each get more out of the cores than fewer workers with more (docs/decisions.md).
CORES_PER_WORKER = 1
MEMORY_PER_WORKER_BYTES = 2 * 2**30


def worker_count(wanted: int | str, *, cores: int, memory_bytes: int, gpus: int) -> int:
    """The number of workers for MAX_WORKERS.

    Args:
        wanted: a number, taken as it is, or `auto`.
        cores: that this process may use.
        memory_bytes: of the machine, or of the container's limit.
        gpus: that torch can compute on.

    Returns:
        For `auto`: one a GPU where there are any, else one a core; as many as fit into memory; at least 1.
    """
    if isinstance(wanted, int):
        return wanted
    by_compute = gpus if gpus else cores // CORES_PER_WORKER
    return max(1, min(by_compute, memory_bytes // MEMORY_PER_WORKER_BYTES))


def usable_gpus(device: str, found: int) -> int:
    """How many of the `found` GPUs the setting `device` lets workers compute on."""
    if device in ("auto", "cuda"):
        return found
    return min(1, found) if device.startswith("cuda:") else 0


def worker_devices(wanted: str, *, gpus: int) -> tuple[str, ...]:
    """The devices to deal round robin to the workers.

    Args:
        wanted: the setting: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.
        gpus: that torch can compute on.

    Returns:
        For `auto` and `cuda`: each GPU by its number, where there are any; else what was wanted.
    """
    if wanted in ("auto", "cuda") and gpus:
        return tuple(f"cuda:{index}" for index in range(gpus))
    return (wanted,)


def threads_per_worker(cores: int, busy: int) -> int:
    """Compute threads for each of `busy` workers that share `cores`; a worker alone gets all of them."""
    return max(1, cores // max(1, busy))
