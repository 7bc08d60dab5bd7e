"""A minute of measuring: the machine, each way to compute with one worker, then more workers in the fastest way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demucs_server_worker.machine import basics
from demucs_server_worker.measure import figures
from demucs_server_worker.measure.children import CannotBeMeasured, ask, children
from demucs_server_worker.measure.figures import Machine, Measured, Setup, Skipped
from demucs_server_worker.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to measure.

    Attributes:
        model: its name; its files are on this machine.
        repo: a folder of models, or None.
        settings: the device and the folder of conversions are taken from them.
        seconds: that each setup computes for.
        most_workers: more are not tried.
    """

    model: str
    repo: Path | None
    settings: Settings
    seconds: float = 4.0
    most_workers: int = 256


Found = Machine | Measured | Skipped


def measure(order: Order, tell: Callable[[str], None] = lambda text: None) -> Iterator[Found]:
    """Measure, one thing after the other.

    Args:
        order: what.
        tell: is told what begins, for whoever waits.

    Yields:
        The machine first; then each setup, measured or skipped.

    Raises:
        CannotBeMeasured: the model does not load, or the device cannot be used.
    """
    cores = basics.cores()
    tell(f"looking at the machine and at {order.model}")
    machine = look(order)
    yield machine
    known: list[Measured] = []
    settings = order.settings
    single = figures.single_setups(machine, cores, backend=settings.backend, precision=settings.precision)
    for setup in [*single, *figures.shared_setups(machine, cores)]:
        if setup.workers > order.most_workers or not _fits(setup, known):
            continue
        found = time_setup(order, setup, tell)
        yield found
        if isinstance(found, Measured):
            known.append(found)
    if not known:
        raise CannotBeMeasured(f"{order.model} runs in no way on {machine.device}.")


def look(order: Order) -> Machine:
    """What the machine can do, and what the model asks of it.

    Raises:
        CannotBeMeasured: as `measure`.
    """
    return Machine.of(ask(_task(order, "machine", basics.cores())))


def time_setup(order: Order, setup: Setup, tell: Callable[[str], None] = lambda text: None) -> Measured | Skipped:
    """Run forward passes in as many processes as the setup has workers, all at the same time."""
    words = f"{setup.backend} {setup.precision}, {setup.workers} × {setup.threads} threads"
    tell(words)

    def on_converting(seconds: float) -> None:
        tell(f"{words}: converting {order.model}, once, about half a minute ({seconds:.0f} s)")

    task = _task(order, "passes", setup.threads, backend=setup.backend, precision=setup.precision)
    try:
        with children(setup.workers, task, on_converting) as ready:
            for child in ready:
                child.run(order.seconds)
            return Measured.of(setup, [child.hear() for child in ready])
    except CannotBeMeasured as error:
        return Skipped(setup, error.message)


def _fits(setup: Setup, known: list[Measured]) -> bool:
    """Whether so many are likely to have room, by what one took."""
    taken = [
        each.peak_bytes
        for each in known
        if (each.setup.backend, each.setup.precision) == (setup.backend, setup.precision)
    ]
    return setup.workers * max(taken, default=0) <= basics.memory().available


def _task(order: Order, what: str, threads: int, **more: str) -> dict[str, Any]:
    return {
        "what": what,
        "model": order.model,
        "repo": str(order.repo) if order.repo else None,
        "device": order.settings.device,
        "threads": threads,
        "precision": order.settings.precision,
        "backend": order.settings.backend,
        "cache_dir": str(order.settings.cache_dir),
        **more,
    }
