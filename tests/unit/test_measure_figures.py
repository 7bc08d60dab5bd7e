"""What follows from measured passes: songs an hour, the distance to the floor, the number of workers to choose."""

from __future__ import annotations

from typing import Any

import pytest

from demucs_server_worker.measure import figures
from demucs_server_worker.measure.figures import Machine, Measured, Setup

GB = 10**9


def machine(**changes: Any) -> Machine:
    values: dict[str, Any] = {
        "device": "cpu", "device_name": None, "devices": 1, "bf16": True, "openvino": True,
        "chosen_backend": "openvino", "chosen_precision": "bf16", "parameters": 42_000_000, "members": 1,
        "segment_seconds": 8.0, "stride_seconds": 6.0, "operations": 300 * GB,
        "matrix_rates": {"fp32": 250.0 * GB, "bf16": 1000.0 * GB},
    }  # fmt: skip
    return Machine(**{**values, **changes})


def measured(workers: int, passes_a_second: float, *, peak_bytes: int = GB, kind: str = "openvino bf16") -> Measured:
    setup = Setup(*kind.split(), workers, 2)
    return Measured(setup=setup, pass_seconds=workers / passes_a_second, passes_a_second=passes_a_second,
                    peak_bytes=peak_bytes)  # fmt: skip


def test_the_floor_is_the_work_at_the_highest_matrix_rate() -> None:
    assert machine().floor_seconds == pytest.approx(0.3)
    assert figures.distance_to_floor(machine(), measured(1, 1.0)) == pytest.approx(1 / 0.3)
    assert figures.distance_to_floor(machine(), measured(2, 2.0)) == pytest.approx(0.5 / 0.3)


def test_a_second_of_audio_and_an_hour_of_songs() -> None:
    # 240 s of a song are 40 passes of 6 s each.
    assert figures.compute_a_second_of_audio(machine(), measured(1, 0.5)) == pytest.approx(2 / 6)
    assert figures.songs_an_hour(machine(), measured(1, 0.5)) == pytest.approx(3600 * 0.5 / 40)
    # All networks of a bag run, for all stems.
    bag = machine(members=4)
    assert figures.compute_a_second_of_audio(bag, measured(1, 0.5)) == pytest.approx(8 / 6)
    assert figures.songs_an_hour(bag, measured(1, 0.5)) == pytest.approx(3600 * 0.5 / 160)
    # A song's last segment is computed whole.
    assert figures.songs_an_hour(machine(stride_seconds=5.9), measured(1, 0.5)) == pytest.approx(3600 * 0.5 / 41)


def test_passes_of_workers_that_ran_at_once_add_up() -> None:
    said = [
        {"passes": [1.0, 1.2], "seconds": 2.2, "peak_bytes": 7},
        {"passes": [1.1, 1.3, 1.5], "seconds": 3.9, "peak_bytes": 9},
    ]
    found = Measured.of(Setup("torch", "fp32", 2, 1), said)
    assert found.pass_seconds == 1.2
    assert found.passes_a_second == pytest.approx(2 / 2.2 + 3 / 3.9)
    assert found.peak_bytes == 9


def test_what_the_settings_come_to_is_measured_first() -> None:
    setups = figures.single_setups(machine(), 8)
    assert setups[0] == Setup("openvino", "bf16", 1, 8)
    assert sorted(setups) == sorted(
        Setup(backend, precision, 1, 8) for backend in ("openvino", "torch") for precision in ("bf16", "fp32")
    )
    plain = machine(bf16=False, openvino=False, chosen_backend="torch", chosen_precision="fp32")
    assert figures.single_setups(plain, 8) == [Setup("torch", "fp32", 1, 8)]
    only = machine(chosen_backend="torch", chosen_precision="fp32")
    assert figures.single_setups(only, 8, backend="torch", precision="fp32") == [Setup("torch", "fp32", 1, 8)]


def test_on_a_gpu_half_precision_is_measured_too_and_two_workers_share_it() -> None:
    gpu = machine(device="cuda:0", openvino=False, chosen_backend="torch", chosen_precision="bf16")
    assert {setup.precision for setup in figures.single_setups(gpu, 8)} == {"fp16", "bf16", "fp32"}
    assert [setup.workers for setup in figures.shared_setups(gpu, 8)] == [2]


@pytest.mark.parametrize(
    ("cores", "shared"), [(1, []), (2, [(2, 1)]), (6, [(2, 3), (4, 1)]), (8, [(2, 4), (4, 2), (8, 1)])]
)
def test_cores_are_shared_by_twice_as_many_workers_each_time(cores: int, shared: list[tuple[int, int]]) -> None:
    assert [(setup.workers, setup.threads) for setup in figures.shared_setups(machine(), cores)] == shared


def test_the_fastest_is_best_unless_fewer_workers_are_hardly_slower() -> None:
    one, two, four = measured(1, 1.0), measured(2, 1.5), measured(4, 1.52)
    assert figures.best(machine(), [one, two], 16 * GB) == two
    assert figures.best(machine(), [one, two, four], 16 * GB) == two


def test_workers_that_do_not_fit_into_memory_are_not_the_best() -> None:
    one, two = measured(1, 1.0, peak_bytes=3 * GB), measured(2, 2.0, peak_bytes=3 * GB)
    assert figures.best(machine(), [one, two], 5 * GB) == one
    assert figures.best(machine(), [one, two], 1 * GB) == one


def test_a_way_to_compute_that_the_settings_do_not_take_is_not_advised() -> None:
    own, other = measured(1, 1.0), measured(1, 9.0, kind="torch bf16")
    assert figures.best(machine(), [own, other], 16 * GB) == own
    # Unless what they take could not be measured.
    assert figures.best(machine(), [other], 16 * GB) == other
