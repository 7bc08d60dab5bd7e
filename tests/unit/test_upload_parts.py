"""The pace of uploads and the layout of their folders."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from demucs_server_worker.errors import TooSlow
from demucs_server_worker.server.folders import folders_for, folders_of
from demucs_server_worker.server.pace import Pace
from demucs_server_worker.task import Origin, Task
from tests.queue_cases import request

DATA = Path("/srv/data")


def test_a_client_that_brings_enough_in_each_window_goes_on_for_ever() -> None:
    pace = Pace(10.0)
    for _ in range(1_000):
        pace.came(5_000, 4.9)
    assert pace.patience_seconds == 10.0


def test_a_byte_a_second_is_found_out_at_the_end_of_the_window() -> None:
    pace = Pace(10.0)
    for second in range(9):
        pace.came(1, 1.0)
        assert pace.patience_seconds == pytest.approx(9.0 - second)
    with pytest.raises(TooSlow, match=r"fewer than 10000 bytes in 10 seconds"):
        pace.came(1, 1.0)


def test_what_came_quickly_before_is_no_credit() -> None:
    pace = Pace(10.0)
    pace.came(100_000_000, 0.5)
    assert pace.patience_seconds == 10.0
    with pytest.raises(TooSlow):
        pace.came(1, 10.0)


def upload(path: Path, origin: Origin) -> Task:
    return Task(id="1", request=msgspec.structs.replace(request("a"), input_path=str(path), origin=origin))


def test_the_folders_of_an_uploads_task_are_its_own() -> None:
    folders = folders_for(DATA, "0123abcd")
    assert (folders.song, folders.results) == (DATA / "uploads/0123abcd/song", DATA / "results/0123abcd")
    assert folders_of(upload(folders.song, Origin.UPLOAD), DATA) == folders


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (DATA / "uploads/0123abcd/song", Origin.PATH),
        (DATA / "uploads/0123abcd/song", Origin.WATCH),
        (Path("/home/me/song"), Origin.UPLOAD),
        (DATA / "uploads/song", Origin.UPLOAD),
    ],
)
def test_a_task_whose_files_are_its_callers_has_none(path: Path, origin: Origin) -> None:
    assert folders_of(upload(path, origin), DATA) is None
