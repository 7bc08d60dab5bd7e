"""What is measured, and what follows from it. Pure arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

SONG_SECONDS = 240.0  # of the songs that are counted an hour
HOUR_SECONDS = 3600.0
# More workers need more memory each, and songs then take longer: they must gain more than this to be worth it.
WORTHWHILE = 0.03


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What computes, and what a model asks of it.

    Attributes:
        device: where workers compute, e.g. `cpu`.
        device_name: of a GPU.
        devices: how many of its kind there are.
        bf16: whether the device multiplies bfloat16 natively.
        openvino: whether OpenVINO can run the model here.
        chosen_backend, chosen_precision: what the settings come to, `auto` resolved.
        parameters: of one network of the model.
        members: networks of the model.
        segment_seconds: of audio that one forward pass takes.
        stride_seconds: of audio that each pass brings a song forward.
        operations: floating-point operations of one pass.
        matrix_rates: floating-point operations a second in products of large matrices, by precision.
    """

    device: str
    device_name: str | None
    devices: int
    bf16: bool
    openvino: bool
    chosen_backend: str
    chosen_precision: str
    parameters: int
    members: int
    segment_seconds: float
    stride_seconds: float
    operations: int
    matrix_rates: Mapping[str, float]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """From what a child said."""
        return cls(**{name: said[name] for name in cls.__dataclass_fields__})

    @property
    def best_rate(self) -> float:
        """The highest matrix rate, whatever its precision."""
        return max(self.matrix_rates.values())

    @property
    def floor_seconds(self) -> float:
        """Seconds a pass if everything ran as fast as the fastest product of matrices: no program gets there."""
        return self.operations / self.best_rate


@dataclass(frozen=True, order=True)
class Setup:
    """A way to compute.

    Attributes:
        backend: `torch` or `openvino`.
        precision: `fp32`, `bf16`, `fp16`.
        workers: processes at once.
        threads: compute threads of each.
    """

    backend: str
    precision: str
    workers: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How fast a setup was.

    Attributes:
        setup: which.
        pass_seconds: of one forward pass, the median over all workers.
        passes_a_second: of all workers together.
        peak_bytes: the most memory that one of the processes took.
    """

    setup: Setup
    pass_seconds: float
    passes_a_second: float
    peak_bytes: int

    @classmethod
    def of(cls, setup: Setup, said: Sequence[Mapping[str, Any]]) -> Self:
        """From what the children said that ran at the same time."""
        return cls(
            setup=setup,
            pass_seconds=statistics.median(seconds for each in said for seconds in each["passes"]),
            passes_a_second=sum(len(each["passes"]) / each["seconds"] for each in said),
            peak_bytes=max(each["peak_bytes"] for each in said),
        )


@dataclass(frozen=True)
class Skipped:
    """A setup that this machine or this model does not have, and why, in a sentence."""

    setup: Setup
    reason: str


def compute_a_second_of_audio(machine: Machine, measured: Measured) -> float:
    """Seconds that the machine computes for each second of audio, all its workers busy."""
    return machine.members / (measured.passes_a_second * machine.stride_seconds)


def songs_an_hour(machine: Machine, measured: Measured) -> float:
    """Songs of `SONG_SECONDS`, all stems, by the forward passes alone."""
    passes = math.ceil(SONG_SECONDS / machine.stride_seconds) * machine.members
    return HOUR_SECONDS * measured.passes_a_second / passes


def distance_to_floor(machine: Machine, measured: Measured) -> float:
    """How many times longer passes take than the floor: of the machine as a whole, so that idle cores count too."""
    return 1 / (measured.passes_a_second * machine.floor_seconds)


def single_setups(machine: Machine, cores: int, *, backend: str = "auto", precision: str = "auto") -> list[Setup]:
    """One worker with all cores: as the settings have it first, then every other way that can pay on this device.

    Args:
        machine: it and the model.
        cores: that a worker may use.
        backend, precision: the settings; `auto` lets others be measured too.
    """
    own = ["fp16"] if machine.device.startswith("cuda") else []
    precisions = [*own, *(["bf16"] if machine.bf16 else []), "fp32"] if precision == "auto" else [precision]
    backends = (["openvino"] if machine.openvino else []) + ["torch"] if backend == "auto" else [backend]
    chosen = Setup(machine.chosen_backend, machine.chosen_precision, 1, cores)
    others = [Setup(one, other, 1, cores) for one in backends for other in precisions]
    return [chosen, *(each for each in others if each != chosen)]


def shared_setups(machine: Machine, cores: int) -> list[Setup]:
    """More workers, as the settings have it: twice as many each time, up to one a core; on a GPU, two."""
    counts = [2] if machine.device != "cpu" else [2**power for power in range(1, 1 + int(math.log2(max(1, cores))))]
    kind = machine.chosen_backend, machine.chosen_precision
    return [Setup(*kind, count, max(1, cores // count)) for count in counts]


def best(machine: Machine, measured: Sequence[Measured], available_bytes: int) -> Measured:
    """Of what the settings come to, the number of workers to choose: the fastest that fits into memory, or fewer that
    are hardly slower.

    Args:
        machine: says what the settings come to.
        measured: at least one.
        available_bytes: of memory; a single worker is assumed to fit.
    """
    kind = machine.chosen_backend, machine.chosen_precision
    of_kind = [each for each in measured if (each.setup.backend, each.setup.precision) == kind] or list(measured)
    fitting = [each for each in of_kind if each.setup.workers * each.peak_bytes <= available_bytes]
    fitting = fitting or [min(of_kind, key=lambda each: each.setup.workers)]
    enough = max(each.passes_a_second for each in fitting) * (1 - WORTHWHILE)
    good = [each for each in fitting if each.passes_a_second >= enough]
    return min(good, key=lambda each: (each.setup.workers, -each.passes_a_second))
