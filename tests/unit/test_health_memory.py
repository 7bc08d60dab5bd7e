"""How much memory tasks take, by the table and by what was seen; limits; and whether there is enough for one more."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from demucs_server_worker.health.estimate import CONVERSION_BYTES, MODELS, Estimates, may_convert, table_estimate
from demucs_server_worker.health.memory_book import MemoryBook
from demucs_server_worker.health.readings import MachineReading, WorkerReading
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.catalogue import DEMUCS_MODELS
from demucs_server_worker.task import Task, TaskRequest

GB = 10**9
MB = 10**6


def options(**fields: Any) -> SeparationOptions:
    return SeparationOptions(**fields)


def task(id: str = "a", **fields: Any) -> Task:
    request = TaskRequest(input_path="/in/song", output_dir="/out", input_name="song", options=options(**fields))
    return Task(id=id, request=request)


def book(
    limit: int | Literal["auto"] = "auto", *, total: int = 16 * GB, available: int | None = None, workers: int = 2,
    openvino: bool = False, preloaded: str | None = None, **rss: int,
) -> MemoryBook:  # fmt: skip
    made = MemoryBook(limit, openvino=openvino, preloaded=preloaded)
    look(made, total=total, available=total if available is None else available, workers=workers, **rss)
    return made


def look(
    made: MemoryBook, *, total: int = 16 * GB, available: int = 16 * GB, workers: int = 2, converting: int = 0,
    **rss: int,
) -> None:  # fmt: skip
    readings = {worker: WorkerReading(1, size, None, converting) for worker, size in rss.items()}
    machine = MachineReading(memory_total_bytes=total, memory_available_bytes=available)
    made.take(readings, machine, workers=workers)


class TestEstimates:
    def test_every_model_of_demucs_stands_in_the_table(self) -> None:
        assert set(DEMUCS_MODELS) <= set(MODELS)

    @pytest.mark.parametrize(
        ("model", "least", "most"),
        # docs/performance.md: a process that only runs htdemucs has 1.0 GB, Demucs' own command 1.5 GB.
        [("demo", 0.3, 0.6), ("htdemucs", 1.0, 1.5), ("htdemucs_ft", 1.5, 2.2), ("mdx_extra", 3.0, 5.0)],
    )
    def test_the_table_gives_what_was_measured(self, model: str, least: float, most: float) -> None:
        assert least * GB <= table_estimate(options(model=model), "cpu") <= most * GB

    @pytest.mark.parametrize(
        ("fields", "least", "most"),
        # docs/decisions.md: with OpenVINO workers peak at 0.97 GB with htdemucs, 1.44 GB with all of htdemucs_ft.
        [
            ({"model": "htdemucs"}, 0.96, 1.0),
            ({"model": "htdemucs_ft"}, 1.44, 1.5),
            ({"precision": "fp32"}, 1.1, 1.2),
            ({"shifts": 5}, 1.0, 1.1),
        ],
    )
    def test_with_openvino_workers_take_less(self, fields: dict[str, Any], least: float, most: float) -> None:
        assert least * GB <= table_estimate(options(**fields), "cpu", openvino=True) <= most * GB

    @pytest.mark.parametrize(
        "fields",
        [{"model": "mdx"}, {"model": "demo"}, {"model": "hf://someone/else"}, {"device": "cuda"}, {"split": False}],
    )
    def test_what_may_not_run_on_openvino_is_reckoned_with_torch(self, fields: dict[str, Any]) -> None:
        assert table_estimate(options(**fields), "cpu", openvino=True) == table_estimate(options(**fields), "cpu")

    def test_models_like_htdemucs_and_unknown_ones_may_be_converted_on_cpus(self) -> None:
        assert may_convert(options(), "cpu")
        assert may_convert(options(model="hf://someone/else"), None)
        assert not may_convert(options(model="demo"), "cpu")
        assert not may_convert(options(), "cuda:0")

    def test_longer_segments_more_shifts_and_songs_that_are_not_split_take_more(self) -> None:
        figures = [
            table_estimate(options(model="mdx", **fields), "cpu")
            for fields in ({"segment": 10}, {"segment": 40}, {"segment": 40, "shifts": 5}, {"split": False})
        ]
        assert figures == sorted(figures)
        assert len(set(figures)) == 4
        assert table_estimate(options(), "cuda:0") > table_estimate(options(), "cpu")
        assert table_estimate(options(device="cpu"), "cuda:0") == table_estimate(options(), "cpu")

    def test_an_unknown_model_is_taken_for_htdemucs(self) -> None:
        assert table_estimate(options(model="hf://someone/else"), None) == table_estimate(options(), None)

    def test_what_was_seen_counts_upwards_at_once_and_downwards_slowly(self) -> None:
        estimates = Estimates()
        first = estimates.bytes(options(), "cpu")
        estimates.learn(options(), "cpu", 3 * GB)
        assert estimates.bytes(options(), "cpu") == 3 * GB
        estimates.learn(options(), "cpu", 2 * GB)
        assert estimates.bytes(options(), "cpu") == int(2.8 * GB)
        for _ in range(50):
            estimates.learn(options(), "cpu", 2 * GB)
        assert estimates.bytes(options(), "cpu") == pytest.approx(2 * GB, rel=0.01)
        assert estimates.bytes(options(shifts=3), "cpu") < 2 * GB
        assert estimates.bytes(options(format="flac", model="htdemucs"), "cpu") != first

    def test_one_stem_of_a_bag_teaches_nothing_of_all_its_stems(self) -> None:
        estimates = Estimates(openvino=True)
        bag, one = options(model="htdemucs_ft"), options(model="htdemucs_ft", stems=("vocals",))
        first = estimates.bytes(bag, "cpu")
        for _ in range(50):
            estimates.learn(one, "cpu", 920_000_000)
        assert estimates.bytes(one, "cpu") == pytest.approx(920_000_000, rel=0.01)
        assert estimates.bytes(bag, "cpu") == first > 1.4 * GB


class TestLearning:
    def seen(self, made: MemoryBook, its: Task, *sizes: int, completed: bool = True) -> int:
        made.begin(its, "worker-1", "cpu")
        for size in sizes:
            look(made, **{"worker-1": size})
        made.end(its.id, completed=completed)
        return made._estimates.bytes(its.request.options, "cpu")

    def test_the_peak_of_a_task_is_the_largest_reading_of_its_worker(self) -> None:
        made = book(**{"worker-1": 500 * MB})
        made.begin(task(), "worker-1", "cpu")
        assert made.peak("a") is None
        for size in (GB, 3 * GB, 2 * GB):
            look(made, **{"worker-1": size, "worker-2": 9 * GB})
        assert made.peak("a") == 3 * GB
        made.end("a", completed=True)
        assert made.peak("a") is None
        assert made._estimates.bytes(options(), "cpu") == 3 * GB

    def test_a_task_on_a_worker_that_was_as_large_before_does_not_raise_the_estimate(self) -> None:
        made = book(**{"worker-1": 5 * GB})
        assert self.seen(made, task(model="demo"), 5 * GB) == table_estimate(options(model="demo"), "cpu")

    def test_a_task_that_broke_off_early_does_not_lower_the_estimate_but_one_that_grew_raises_it(self) -> None:
        made = book(**{"worker-1": 400 * MB})
        assert self.seen(made, task(), 400 * MB, completed=False) == table_estimate(options(), "cpu")
        assert self.seen(made, task(), 6 * GB, completed=False) == 6 * GB

    def test_a_conversion_beside_a_task_teaches_nothing(self) -> None:
        made = book(**{"worker-1": 400 * MB})
        made.begin(task(), "worker-1", "cpu")
        look(made, converting=1_300 * MB, **{"worker-1": 1_900 * MB})
        assert made.peak("a") == 1_900 * MB
        look(made, **{"worker-1": 1_000 * MB})
        made.end("a", completed=True)
        assert GB < made._estimates.bytes(options(), "cpu") < 1_300 * MB

    def test_a_task_that_nobody_looked_at_teaches_nothing(self) -> None:
        assert self.seen(book(), task()) == table_estimate(options(), "cpu")


class TestLimits:
    def limit(self, made: MemoryBook, **fields: Any) -> int | None:
        made.begin(task(**fields), "worker-1", "cpu")
        return made.limit("a")

    def test_a_setting_is_the_limit(self) -> None:
        assert self.limit(book(700 * MB)) == 700 * MB
        assert book(700 * MB).limit(None) == 700 * MB

    def test_auto_is_a_share_of_the_machine_and_at_least_three_times_the_estimate(self) -> None:
        assert self.limit(book(total=40 * GB, workers=2)) == 18 * GB
        assert self.limit(book(total=16 * GB, workers=8)) == 3 * table_estimate(options(), "cpu")
        assert self.limit(book(total=2 * GB, workers=8)) == int(1.8 * GB)
        assert book(total=16 * GB, workers=4).limit(None) == int(3.6 * GB)

    def test_a_conversion_does_not_count_against_it_but_other_children_and_a_runaway_do(self) -> None:
        assert MemoryBook.weighed(WorkerReading(1, 1_900 * MB, None, 1_250 * MB)) == 650 * MB
        assert MemoryBook.weighed(WorkerReading(1, 9 * GB, None, 8 * GB)) == 9 * GB - CONVERSION_BYTES

    def test_without_figures_there_is_no_limit(self) -> None:
        assert MemoryBook("auto").limit(None) is None


class TestAdmission:
    NEED = table_estimate(SeparationOptions(), "cpu")
    RESERVE = int(16 * GB * 0.05)

    def test_there_must_be_room_for_the_task_and_a_reserve(self) -> None:
        assert book(available=self.NEED + self.RESERVE).lack(task(), "worker-1", "cpu") is None
        lack = book(available=self.NEED + self.RESERVE - 10).lack(task(), "worker-1", "cpu")
        assert lack is not None
        assert (lack.needed_bytes, lack.free_bytes) == (self.NEED, self.NEED - 10)

    def test_what_the_worker_has_already_need_not_be_free(self) -> None:
        made = book(available=self.RESERVE + 100 * MB, **{"worker-1": self.NEED - 100 * MB, "worker-2": 0})
        assert made.lack(task(), "worker-1", "cpu") is None
        assert made.lack(task(), "worker-2", "cpu") is not None

    def test_what_running_tasks_will_still_take_is_not_free(self) -> None:
        made = book(available=2 * self.NEED + self.RESERVE - 1, **{"worker-1": 100 * MB})
        assert made.lack(task("b"), "worker-2", "cpu") is None
        made.begin(task("a"), "worker-1", "cpu")
        assert made.lack(task("b"), "worker-2", "cpu") is None  # a's worker has 100 MB of it already
        look(made, available=2 * self.NEED + self.RESERVE - 101 * MB, **{"worker-1": 100 * MB})
        assert made.lack(task("b"), "worker-2", "cpu") is not None
        made.end("a", completed=False)
        assert made.lack(task("b"), "worker-2", "cpu") is None

    def test_a_worker_takes_no_more_than_its_limit(self) -> None:
        made = book(500 * MB, available=600 * MB + self.RESERVE)
        assert made.lack(task(), "worker-1", "cpu") is None

    def test_without_figures_every_task_is_let_through(self) -> None:
        assert MemoryBook("auto").lack(task(), "worker-1", "cpu") is None

    def test_what_the_machine_can_never_hold_is_told_from_what_must_wait(self) -> None:
        made = book(total=2 * GB, available=GB, **{"worker-1": 100 * MB})
        assert made.can_never_fit(task(), "cpu") is True
        assert made.can_never_fit(task(model="demo"), "cpu") is False
        look(made, total=2 * GB, available=int(1.6 * GB))
        look(made, total=2 * GB, available=GB)
        assert made.can_never_fit(task(), "cpu") is False  # there was enough once, and may be again
        assert made.lack(task(), "worker-1", "cpu") is not None


class TestConversion:
    """The first task with a model may have it converted, in a process that takes memory of its own."""

    NEED = table_estimate(SeparationOptions(), "cpu", openvino=True)
    RESERVE = int(16 * GB * 0.05)

    def test_there_must_be_room_for_it_too(self) -> None:
        enough = self.NEED + CONVERSION_BYTES + self.RESERVE
        assert book(openvino=True, available=enough).lack(task(), "worker-1", "cpu") is None
        lack = book(openvino=True, available=enough - 1).lack(task(), "worker-1", "cpu")
        assert lack is not None
        assert lack.needed_bytes == self.NEED + CONVERSION_BYTES

    def test_of_several_tasks_that_need_one_it_is_wanted_once(self) -> None:
        made = book(openvino=True, available=2 * self.NEED + CONVERSION_BYTES + self.RESERVE, **{"worker-1": 0})
        made.begin(task("a"), "worker-1", "cpu")
        assert made.lack(task("b", model="htdemucs_6s"), "worker-2", "cpu") is None
        look(made, available=2 * self.NEED + CONVERSION_BYTES + self.RESERVE - 1, **{"worker-1": 0})
        assert made.lack(task("b", model="htdemucs_6s"), "worker-2", "cpu") is not None

    def test_what_it_has_already_is_not_wanted_again(self) -> None:
        made = book(openvino=True)
        made.begin(task("a"), "worker-1", "cpu")
        look(
            made, available=2 * self.NEED - 500 * MB + self.RESERVE, converting=CONVERSION_BYTES,
            **{"worker-1": CONVERSION_BYTES + 500 * MB},
        )  # fmt: skip
        assert made.lack(task("b"), "worker-2", "cpu") is None

    def test_once_a_task_has_completed_none_is_expected(self) -> None:
        made = book(openvino=True, available=self.NEED + self.RESERVE)
        for completed, waits in ((False, True), (True, False)):
            made.begin(task("a"), "worker-1", "cpu")
            made.end("a", completed=completed)
            assert (made.lack(task("b"), "worker-2", "cpu") is not None) is waits
        assert made.lack(task("c", model="htdemucs_6s"), "worker-2", "cpu") is not None

    def test_workers_that_are_ready_have_converted_what_they_preload_but_for_bags(self) -> None:
        available = table_estimate(options(model="htdemucs_ft"), "cpu", openvino=True) + self.RESERVE
        assert book(openvino=True, preloaded="htdemucs", available=available).lack(task(), "w", "cpu") is None
        bag = book(openvino=True, preloaded="htdemucs_ft", available=available)
        assert bag.lack(task(model="htdemucs_ft"), "w", "cpu") is not None

    def test_a_machine_that_can_never_hold_it_is_not_waited_for(self) -> None:
        made = book(openvino=True, total=2 * GB, available=int(1.8 * GB))
        assert made.can_never_fit(task(), "cpu") is True
        assert book(total=2 * GB, available=int(1.8 * GB)).can_never_fit(task(), "cpu") is False
