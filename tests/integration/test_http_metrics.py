"""The figures for Prometheus, as a server gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http_server import API, InProcess, serving
from tests.receivers import Receiver
from tests.servers import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with Receiver() as receiver, serving(
        tmp_path_factory.mktemp("metrics"), workers=2, webhook_hosts=receiver.netloc, webhook_secret="x" * 16,
    ) as server:  # fmt: skip
        server.hooks = receiver.url  # type: ignore[attr-defined]
        yield server


class Figures:
    """One scrape."""

    def __init__(self, server: InProcess) -> None:
        answer = server.client.get(f"{API}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        """The value of a sample; 0 for one that nothing was counted for yet."""
        return self.samples.get((f"demucs_worker_{name}", tuple(sorted(labels.items()))), 0.0)

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of all samples of this name."""
        return [dict(labels) for found, labels in self.samples if found == f"demucs_worker_{name}"]


def test_tasks_are_counted_by_state_priority_and_outcome(server: InProcess) -> None:
    before = Figures(server)
    done = server.submit("succeed", priority="high")
    failed = server.submit("raise unreadable")
    retried = server.submit("raise disk")
    server.until_state(done["id"], "completed")
    server.until_state(failed["id"], "failed")
    server.until_state(retried["id"], "failed")
    after = Figures(server)

    def more(name: str, **labels: str) -> float:
        return after.get(name, **labels) - before.get(name, **labels)

    assert more("tasks_submitted_total", priority="high") == 1
    assert more("tasks_submitted_total", priority="normal") == 2
    assert more("tasks_finished_total", state="completed", priority="high") == 1
    assert more("tasks_finished_total", state="failed", priority="normal") == 2
    assert more("tasks", state="completed") == 1 and more("tasks", state="failed") == 2
    assert more("retries_total", code="disk_full") == 2
    assert more("failures_total", code="disk_full") == 1 and more("failures_total", code="input_unreadable") == 1
    assert more("queue_wait_seconds_count", priority="high") == 1
    assert more("queue_wait_seconds_count", priority="normal") == 4
    assert more("task_run_seconds_count", outcome="completed") == 1
    assert more("task_run_seconds_count", outcome="retrying") == 2
    assert more("task_run_seconds_count", outcome="failed") == 2
    assert more("audio_seconds_total", model="htdemucs") == 3.0
    assert more("real_time_factor_count", model="htdemucs") == 1
    assert more("worker_tasks_done_total", worker="worker-1") + more("worker_tasks_done_total", worker="worker-2") == 1


def test_what_waits_and_runs_is_told_by_priority(server: InProcess) -> None:
    running = [server.submit("wait", priority="high") for _ in range(2)]
    for task in running:
        server.until_state(task["id"], "running")
    waiting = [server.submit("succeed", priority="low") for _ in range(3)]
    figures = Figures(server)
    assert figures.get("tasks_running", priority="high") == 2 and figures.get("tasks_running", priority="low") == 0
    assert figures.get("tasks_queued", priority="low") == 3 and figures.get("tasks_queued", priority="high") == 0
    assert figures.get("tasks", state="queued") == 3 and figures.get("tasks", state="running") == 2
    assert figures.get("workers", state="busy") == 2
    for task in [*waiting, *running]:
        server.client.post(f"{API}/tasks/{task['id']}/cancel").raise_for_status()
    figures = Figures(server)
    assert figures.get("tasks_running", priority="high") == 0 and figures.get("tasks", state="queued") == 0
    assert figures.get("tasks_finished_total", state="cancelled", priority="low") == 3


def test_requests_are_counted_by_route_and_not_by_address(server: InProcess) -> None:
    task = server.submit("succeed")
    for address in ("nothing", "nothing-else", task["id"]):
        server.client.get(f"{API}/tasks/{address}")
    for number in range(5):
        server.client.get(f"/made-up-{number}")
    server.client.request("MADEUP", f"{API}/tasks")
    figures = Figures(server)
    route = f"{API}/tasks/{{task_id}}"
    assert figures.get("http_request_seconds_count", method="GET", route=route, status="404") == 2
    assert figures.get("http_request_seconds_count", method="GET", route=route, status="200") >= 1
    assert figures.get("http_request_seconds_count", method="GET", route="unmatched", status="404") == 5
    assert figures.get("http_requests_in_flight") == 1  # this one
    posted = f"{API}/tasks"
    assert figures.get("http_received_bytes_total", route=posted) > 50
    assert figures.get("http_sent_bytes_total", route=route) > 500
    addresses = server.client.get("/openapi.json").json()["paths"]
    assert {labels["route"] for labels in figures.labels("http_request_seconds_count")} <= {"unmatched", *addresses}
    assert {labels["method"] for labels in figures.labels("http_request_seconds_count")} <= {"GET", "POST", "other"}


def test_streams_and_webhooks_are_counted(server: InProcess) -> None:
    before = Figures(server)
    task = server.submit("succeed", webhook={"url": server.hooks, "events": ["started", "completed"]})  # type: ignore[attr-defined]
    with server.client.stream("GET", f"{API}/tasks/{task['id']}/events") as answer:
        list(answer.iter_raw())
    with server.client.stream("GET", f"{API}/events") as answer:
        chunks = answer.iter_raw()
        next(chunks)
        until(lambda: Figures(server).get("event_listeners") == 1, "a listener is counted")

    def more(name: str, **labels: str) -> float:
        return Figures(server).get(name, **labels) - before.get(name, **labels)

    until(lambda: more("webhook_deliveries_total", result="delivered") == 2, "two are delivered")
    until(lambda: more("event_streams_closed_total", reason="gone") == 1, "one left")
    assert more("event_streams_closed_total", reason="done") == 1
    assert more("webhook_delivery_seconds_count") == 2
    until(lambda: Figures(server).get("webhook_pending") == 0, "none is pending")


def test_the_server_the_workers_and_the_machine_are_told(server: InProcess) -> None:
    until(lambda: Figures(server).get("worker_memory_bytes", worker="worker-1") > 1e6, "a worker is measured")
    figures = Figures(server)
    assert figures.get("accepting") == figures.get("healthy") == 1
    assert figures.get("machine_memory_bytes") > figures.get("machine_memory_available_bytes") > 0
    assert figures.get("machine_disk_free_bytes") > 0
    assert figures.get("process_resident_memory_bytes") > 1e6
    (build,) = figures.labels("build_info")
    assert build["version"] == server.client.get(f"{API}/status").json()["version"]


def test_a_key_is_needed_where_the_api_needs_one(tmp_path: Path) -> None:
    with serving(tmp_path, headers={"X-API-Key": "a-key"}, api_keys="a-key") as server:
        assert server.client.get(f"{API}/metrics").status_code == 200
        assert server.client.get(f"{API}/metrics", headers={"X-API-Key": "wrong"}).status_code == 401
        assert server.client.get("/metrics", headers={"X-API-Key": ""}).status_code == 404
