"""Submissions share their waits for the disk, keep their order, and each caller gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from demucs_server_worker.errors import DiskFull, TaskConflict
from demucs_server_worker.submissions import Stored, Submissions
from demucs_server_worker.task import Task, TaskRequest


def request(name: str) -> TaskRequest:
    return TaskRequest(input_path=f"/{name}", output_dir="/out", input_name=name)


class Disk:
    """A slow disk: each batch waits for the gate."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.batches: list[list[str]] = []

    async def put_all(self, requests: Sequence[TaskRequest]) -> list[Stored]:
        self.batches.append([each.input_name for each in requests])
        await self.gate.wait()
        if any(each.input_name == "full" for each in requests):
            raise DiskFull(path="/data")
        return [
            TaskConflict(file_id="x")
            if each.input_name == "conflict"
            else (Task(id=each.input_name, request=each), True)
            for each in requests
        ]


def test_what_comes_while_the_disk_is_busy_goes_together_and_in_order() -> None:
    async def scene() -> None:
        disk = Disk()
        submissions = Submissions(disk.put_all)
        first = asyncio.create_task(submissions.put(request("a")))
        while not disk.batches:
            await asyncio.sleep(0)
        later = [asyncio.create_task(submissions.put(request(name))) for name in "bcd"]
        await asyncio.sleep(0)
        disk.gate.set()
        stored = [await each for each in (first, *later)]
        assert [task.id for task, _ in stored] == ["a", "b", "c", "d"]
        assert disk.batches == [["a"], ["b", "c", "d"]]
        await submissions.put(request("e"))
        assert disk.batches[-1] == ["e"]

    asyncio.run(scene())


def test_one_refusal_is_its_callers_alone() -> None:
    async def scene() -> None:
        disk = Disk()
        disk.gate.set()
        submissions = Submissions(disk.put_all)
        good, bad, also = await asyncio.gather(
            *(submissions.put(request(name)) for name in ("a", "conflict", "b")), return_exceptions=True
        )
        assert isinstance(bad, TaskConflict)
        assert not isinstance(good, BaseException)
        assert not isinstance(also, BaseException)

    asyncio.run(scene())


def test_a_full_disk_is_told_to_everyone_and_the_next_can_be_stored() -> None:
    async def scene() -> None:
        disk = Disk()
        disk.gate.set()
        submissions = Submissions(disk.put_all)
        answers = await asyncio.gather(
            *(submissions.put(request(name)) for name in ("a", "full")), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [DiskFull, DiskFull]
        assert (await submissions.put(request("b")))[1] is True

    asyncio.run(scene())


def test_a_caller_that_gives_up_does_not_take_the_others_along() -> None:
    async def scene() -> None:
        disk = Disk()
        submissions = Submissions(disk.put_all)
        impatient = asyncio.create_task(submissions.put(request("a")))
        patient = asyncio.create_task(submissions.put(request("b")))
        while not disk.batches:
            await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        disk.gate.set()
        assert (await patient)[0].id == "b"

    asyncio.run(scene())
