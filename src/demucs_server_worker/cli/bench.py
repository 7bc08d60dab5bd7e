"""`bench`: how fast this machine separates with a model, and how many workers are best for it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demucs_server_worker.cli.exits import DONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demucs_server_worker.measure.figures import Machine, Measured, Skipped
    from demucs_server_worker.settings import Settings

FALLBACK = "demo"

EPILOG = """\
[bold]Examples[/bold]

The default model, on this machine: [cyan]demucs-server-worker bench[/cyan]

A model from a folder, for programs: [cyan]demucs-server-worker bench -n htdemucs --repo models --json[/cyan]

What is measured are forward passes of the model, in processes like a worker's, as many at once as there would be
workers. Other programs on the machine make the figures worse: measure when it is idle.
"""

# Title and width of each column.
COLUMNS = (
    ("backend", 9), ("precision", 10), ("workers × threads", 18), ("s a segment", 12), ("s a second of audio", 20),
    ("songs an hour", 14), ("× the floor", 12), ("memory a worker", 15),
)  # fmt: skip


def bench(
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", metavar="NAME", help="The model. DEMUCS_WORKER_MODEL or htdemucs by default."),
    ] = None,
    repo: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Take the model from this folder.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", "-d", help="auto, cpu, mps, cuda or cuda:N.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Try no more workers than this.")] = 256,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each way to compute is measured.")] = 4.0,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings as TOML, below those of the environment.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Measure this machine, in about a minute: by backend, precision and workers; and say which MAX_WORKERS is best."""
    from demucs_server_worker.cli.words import printable
    from demucs_server_worker.measure.session import Order, measure
    from demucs_server_worker.settings import load_settings

    settings = load_settings(config, model=name, model_repo=repo, device=device)
    model, repo = _model_on_disk(settings)
    order = Order(model=model, repo=repo, settings=settings, seconds=seconds, most_workers=workers)

    def tell(text: str) -> None:
        sys.stderr.write(f"measuring: {printable(text)} …\n")

    show = _print_object if as_json else _Table(model).show
    found = _shown(measure(order, tell), show)
    _conclude(found, settings, as_json=as_json)
    return DONE


def _model_on_disk(settings: Settings) -> tuple[str, Path | None]:
    """The model that is wanted; or the one in the package, told so, where it would have to be fetched first."""
    from demucs_server_worker.separation import catalogue

    if catalogue.locate(settings.model, settings.model_repo).on_disk:
        return settings.model, settings.model_repo
    fetch = f"demucs-server-worker models --download {settings.model}"
    sys.stderr.write(
        f"{settings.model} is not on this machine, so `{FALLBACK}` is measured, whose figures say little of "
        f"others. To fetch it: {fetch}\n"
    )
    return FALLBACK, None


def _shown(found: Iterable[Machine | Measured | Skipped], show: Any) -> tuple[Machine, list[Measured]]:
    from demucs_server_worker.measure.figures import Machine, Measured

    machine: Machine | None = None
    measured: list[Measured] = []
    for each in found:
        if isinstance(each, Machine):
            machine = each
        elif isinstance(each, Measured):
            measured.append(each)
        show(each, machine)
    assert machine is not None  # noqa: S101 (it comes first, or an error does)
    return machine, measured


def _conclude(found: tuple[Machine, list[Measured]], settings: Settings, *, as_json: bool) -> None:
    from demucs_server_worker.machine import basics
    from demucs_server_worker.measure import figures

    machine, measured = found
    chosen = figures.best(machine, measured, basics.memory().available)
    workers = chosen.setup.workers * machine.devices
    songs = figures.songs_an_hour(machine, chosen) * machine.devices
    if as_json:
        _write({"event": "best", "maxWorkers": workers, "songsAnHour": round(songs, 1), "set": settings.max_workers,
                **_fields(chosen, machine)})  # fmt: skip
        return
    sys.stdout.write(
        f"\nBest: MAX_WORKERS={workers} (set: {settings.max_workers}), with {chosen.setup.backend} in "
        f"{chosen.setup.precision}: {songs:.0f} songs of {figures.SONG_SECONDS / 60:.0f} minutes an hour, each "
        f"second of audio in {figures.compute_a_second_of_audio(machine, chosen) / machine.devices:.3f} s.\n"
        "By the passes of the model alone; decoding and encoding run beside it.\n"
    )


# --- as a table -------------------------------------------------------------------------------------------------------


class _Table:
    """Prints each row when it is known."""

    def __init__(self, model: str) -> None:
        self._model = model

    def show(self, found: Machine | Measured | Skipped, machine: Machine) -> None:
        from demucs_server_worker.cli.words import printable
        from demucs_server_worker.measure.figures import Machine, Skipped

        if isinstance(found, Machine):
            self._head(found)
        elif isinstance(found, Skipped):
            setup = found.setup
            sys.stdout.write(_line(setup.backend, setup.precision, _crew(setup), printable(found.reason)))
        else:
            sys.stdout.write(_line(*_cells(found, machine)))
        sys.stdout.flush()

    def _head(self, machine: Machine) -> None:
        from demucs_server_worker.cli.words import printable
        from demucs_server_worker.machine import basics

        rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in machine.matrix_rates.items())
        networks = f"{machine.members} networks of " if machine.members > 1 else ""
        where = f"{machine.device} ({machine.device_name})" if machine.device_name else machine.device
        sys.stdout.write(
            f"{printable(self._model)}: {networks}{machine.parameters / 1e6:.1f} million parameters, "
            f"{machine.operations / 1e9:,.0f} GFLOP for a segment of {machine.segment_seconds:g} s\n"
            f"{where}: {basics.cores()} cores; large matrices multiply at {rates}\n"
            f"the floor: {machine.floor_seconds:.2g} s a segment, if all ran at the highest of these rates\n\n"
        )
        sys.stdout.write(_line(*(title for title, _ in COLUMNS)))


def _cells(measured: Measured, machine: Machine) -> tuple[str, ...]:
    from demucs_server_worker.cli.words import size
    from demucs_server_worker.measure import figures

    setup = measured.setup
    return (
        setup.backend, setup.precision, _crew(setup), f"{measured.pass_seconds:.3g}",
        f"{figures.compute_a_second_of_audio(machine, measured):.3g}",
        f"{figures.songs_an_hour(machine, measured):.0f}", f"{figures.distance_to_floor(machine, measured):.1f}",
        size(measured.peak_bytes),
    )  # fmt: skip


def _crew(setup: Any) -> str:
    return f"{setup.workers} × {setup.threads}"


def _line(*cells: str) -> str:
    widths = [width for _, width in COLUMNS]
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False)).rstrip() + "\n"


# --- as objects -------------------------------------------------------------------------------------------------------


def _print_object(found: Machine | Measured | Skipped, machine: Machine) -> None:
    from demucs_server_worker.measure.figures import Machine, Measured

    if isinstance(found, Machine):
        _write({"event": "machine", **_machine_fields(found)})
    elif isinstance(found, Measured):
        _write({"event": "measured", **_fields(found, machine)})
    else:
        _write({"event": "skipped", **asdict(found.setup), "reason": found.reason})


def _machine_fields(machine: Machine) -> dict[str, Any]:
    return {
        "device": machine.device,
        "deviceName": machine.device_name,
        "devices": machine.devices,
        "chosenBackend": machine.chosen_backend,
        "chosenPrecision": machine.chosen_precision,
        "parameters": machine.parameters,
        "members": machine.members,
        "segmentSeconds": machine.segment_seconds,
        "strideSeconds": machine.stride_seconds,
        "operations": machine.operations,
        "matrixRates": dict(machine.matrix_rates),
        "floorSeconds": machine.floor_seconds,
    }


def _fields(measured: Measured, machine: Machine) -> dict[str, Any]:
    from demucs_server_worker.measure import figures

    return {
        **asdict(measured.setup),
        "passSeconds": measured.pass_seconds,
        "passesASecond": measured.passes_a_second,
        "computeASecondOfAudio": figures.compute_a_second_of_audio(machine, measured),
        "songsAnHour": figures.songs_an_hour(machine, measured),
        "distanceToFloor": figures.distance_to_floor(machine, measured),
        "peakBytes": measured.peak_bytes,
    }


def _write(fields: dict[str, Any]) -> None:
    from demucs_server_worker.cli.json_report import write_line

    write_line(sys.stdout, fields)
