"""Lists of tasks over a real server: made aside, and yet as things are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from demucs_server_worker.server import listing
from tests.http_server import API, InProcess, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("server"), workers=2) as server:
        yield server


@pytest.mark.parametrize("step", ["_read", "_written"])
def test_a_long_list_holds_up_nobody(server: InProcess, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    begun, go_on = threading.Event(), threading.Event()
    place: Any = listing.Listing if step == "_read" else listing
    real = getattr(place, step)

    def slow(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return real(*args)

    monkeypatch.setattr(place, step, slow)
    task = server.submit("succeed")
    with ThreadPoolExecutor(1) as aside:
        asked = aside.submit(httpx.get, f"{server.url}{API}/tasks", params={"limit": 500}, timeout=60)
        try:
            assert begun.wait(60)
            statuses = [server.client.get(f"{API}/status").status_code for _ in range(20)]
            assert server.task(task["id"])["id"] == task["id"]
            assert statuses == [200] * 20 and not asked.done()
        finally:
            go_on.set()
        assert asked.result().json()["tasks"][0]["id"] == task["id"]


def test_a_task_that_ends_while_the_list_is_read_does_not_seem_to_begin_anew(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = listing.Listing._read, server.folder / "out"
    running, gone = server.submit("busy")["id"], server.submit("busy")["id"]
    for task_id in (running, gone):
        server.until_state(task_id, "running")

    def read_before_they_end(*args: Any) -> Any:
        found = real(*args)
        (out / "go").touch()
        server.until_state(running, "completed")
        server.until_state(gone, "completed")
        assert server.client.delete(f"{API}/tasks/{gone}").status_code == 204
        return found

    monkeypatch.setattr(listing.Listing, "_read", read_before_they_end)
    tasks = {task["id"]: task for task in httpx.get(f"{server.url}{API}/tasks", timeout=60).json()["tasks"]}
    (out / "go").unlink()
    assert gone not in tasks and (tasks[running]["state"], tasks[running]["progress"]) == ("completed", 1.0)
