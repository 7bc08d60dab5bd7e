"""The figures, their names, the dashboard that shows them, and the page that lists them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import CollectorRegistry

from demucs_server_worker.answers import ANSWERER
from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.events import Event, EventKind
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.server.gauges import StatusCollector
from demucs_server_worker.server.metrics import MOST_MODELS, PREFIX, Metrics
from demucs_server_worker.task import Priority, Task, TaskRequest, TaskState

ROOT = Path(__file__).parents[2]
STATUS: dict[str, Any] = {
    "version": "1.2.3", "uptime_seconds": 5.0, "accepting": True,
    "queue": {"queued": 3, "running": 1, "by_priority": {"high": 1, "normal": 2, "low": 0}},
    "totals": {"completed": 4, "failed": 5, "cancelled": 6, "retried": 7},
    "workers": [
        {"id": "worker-1", "state": "busy", "cpu_percent": 150.0, "rss_bytes": 9e8, "tasks_done": 3, "restarts": 1},
        {"id": "worker-2", "state": "starting", "cpu_percent": None, "rss_bytes": None, "tasks_done": 0, "restarts": 0},
    ],
    "machine": {
        "cpu_percent": 50.0, "memory_total_bytes": 8e9, "memory_available_bytes": 4e9, "disk_free_bytes": 1e9,
        "gpus": [{"name": "GPU", "memory_total_bytes": 4e9, "memory_used_bytes": 1e9, "utilization_percent": 25.0}],
    },
    "health": {"ok": False, "problems": ["one", "two"]},
}  # fmt: skip


def gauges() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: STATUS, {"event_listeners": lambda: 8, "webhook_pending": lambda: 9}))
    return registry


def families() -> dict[str, str]:
    """The kinds of all families by their names, as queries write them."""
    found = {}
    for registry in (Metrics().registry, gauges()):
        for family in registry.collect():
            found[family.name + ("_total" if family.type == "counter" else "")] = family.type
    return found


NAMES = families()


def task(task_id: str = "t1", **changes: Any) -> Task:
    request = TaskRequest(
        input_path="/song.wav", output_dir="/out", input_name="song.wav",
        priority=changes.pop("priority", Priority.NORMAL),
        options=SeparationOptions(model=changes.pop("model", "htdemucs")),
    )  # fmt: skip
    return Task(id=task_id, request=request, created_at=100.0, **changes)


def hear(metrics: Metrics, kind: EventKind, at: float, about: Task, error: ErrorInfo | None = None) -> None:
    metrics.hear(Event(kind=kind, seq=1, at=at, task_id=about.id, task=about, error=error))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"{PREFIX}_{name}", labels)


def test_a_task_that_is_given_back_to_the_queue_was_submitted_once_and_runs_no_longer() -> None:
    metrics, about = Metrics(), task()
    for kind, at in ((EventKind.QUEUED, 100.0), (EventKind.STARTED, 100.0), (EventKind.QUEUED, 101.0)):
        hear(metrics, kind, at, about)
    assert value(metrics, "tasks_submitted_total", priority="normal") == 1
    assert value(metrics, "tasks_running", priority="normal") == 0
    hear(metrics, EventKind.STARTED, 103.0, about)
    assert value(metrics, "tasks_running", priority="normal") == 1
    hear(metrics, EventKind.COMPLETED, 104.0, task(state=TaskState.COMPLETED))
    assert value(metrics, "tasks_running", priority="normal") == 0
    assert value(metrics, "queue_wait_seconds_sum", priority="normal") == 2.0, "of the second wait, from 101 to 103"


def test_the_wait_begins_when_a_task_could_start() -> None:
    metrics = Metrics()
    hear(metrics, EventKind.QUEUED, 100.0, task())
    hear(metrics, EventKind.STARTED, 107.0, task(claim=1))
    hear(metrics, EventKind.RETRYING, 110.0, task(not_before=130.0), ErrorInfo("worker_crashed", "It died.", True))
    hear(metrics, EventKind.STARTED, 131.0, task(claim=2))
    hear(metrics, EventKind.COMPLETED, 141.0, task(state=TaskState.COMPLETED, duration_seconds=20.0))
    assert value(metrics, "queue_wait_seconds_sum", priority="normal") == 8.0
    assert value(metrics, "task_run_seconds_sum", outcome="retrying") == 3.0
    assert value(metrics, "task_run_seconds_sum", outcome="completed") == 10.0
    assert value(metrics, "real_time_factor_sum", model="htdemucs") == 0.5
    assert value(metrics, "audio_seconds_total", model="htdemucs") == 20.0
    assert value(metrics, "retries_total", code="worker_crashed") == 1.0
    assert value(metrics, "tasks_running", priority="normal") == 0.0


def test_a_wait_from_before_this_server_counts_only_where_its_beginning_is_known() -> None:
    metrics = Metrics()
    hear(metrics, EventKind.STARTED, 160.0, task(claim=1))
    hear(metrics, EventKind.STARTED, 900.0, task("t2", claim=2, attempt=2))
    assert value(metrics, "queue_wait_seconds_sum", priority="normal") == 60.0
    assert value(metrics, "queue_wait_seconds_count", priority="normal") == 1.0


def test_a_cancelled_task_that_never_ran_has_no_time_of_an_attempt() -> None:
    metrics = Metrics()
    hear(metrics, EventKind.QUEUED, 100.0, task())
    hear(metrics, EventKind.CANCELLED, 101.0, task(state=TaskState.CANCELLED))
    assert value(metrics, "tasks_finished_total", state="cancelled", priority="normal") == 1.0
    assert value(metrics, "task_run_seconds_count", outcome="cancelled") is None
    assert metrics._queued_at == {} and metrics._running == {}


def test_what_was_answered_at_once_is_no_separated_audio() -> None:
    metrics = Metrics()
    done = task(state=TaskState.COMPLETED, duration_seconds=20.0, cached=True)
    hear(metrics, EventKind.COMPLETED, 101.0, done)
    assert value(metrics, "tasks_cached_total") == 1.0
    assert value(metrics, "audio_seconds_total", model="htdemucs") is None


@pytest.mark.parametrize("worker_id", [ANSWERER, "worker-1"], ids=["beside the workers", "as a worker got it"])
def test_what_was_answered_at_once_is_no_run_time(worker_id: str) -> None:
    metrics = Metrics()
    hear(metrics, EventKind.QUEUED, 100.0, task())
    hear(metrics, EventKind.STARTED, 100.0, task(worker_id=worker_id))
    hear(metrics, EventKind.COMPLETED, 100.1, task(state=TaskState.COMPLETED, duration_seconds=20.0, cached=True))
    assert value(metrics, "task_run_seconds_count", outcome="completed") is None
    assert value(metrics, "real_time_factor_count", model="htdemucs") is None
    assert value(metrics, "tasks_running", priority="normal") == 0
    assert value(metrics, "tasks_finished_total", state="completed", priority="normal") == 1


def test_an_answer_at_once_that_is_cancelled_is_no_run_time_either_but_a_workers_attempt_is() -> None:
    metrics = Metrics()
    for number, (worker_id, count) in enumerate([(ANSWERER, None), ("worker-1", 1.0)]):
        hear(metrics, EventKind.STARTED, 100.0, task(str(number), worker_id=worker_id))
        hear(metrics, EventKind.CANCELLED, 101.0, task(str(number), state=TaskState.CANCELLED))
        assert value(metrics, "task_run_seconds_count", outcome="cancelled") == count


def test_models_that_clients_make_up_are_counted_together() -> None:
    metrics = Metrics()
    for number in range(MOST_MODELS + 30):
        done = task(model=f"hf://someone/model-{number}", state=TaskState.COMPLETED, duration_seconds=1.0)
        hear(metrics, EventKind.COMPLETED, 101.0, done)
    assert value(metrics, "audio_seconds_total", model="other") == 30.0
    assert len(metrics._models) == MOST_MODELS


def test_the_status_is_told_in_base_units() -> None:
    registry = gauges()
    expected = {
        ("tasks", "state", "queued"): 3, ("tasks", "state", "failed"): 5, ("tasks_queued", "priority", "normal"): 2,
        ("workers", "state", "busy"): 1, ("workers", "state", "dead"): 0,
        ("worker_cpu_ratio", "worker", "worker-1"): 1.5,
        ("worker_restarts_total", "worker", "worker-1"): 1, ("worker_busy", "worker", "worker-2"): 0,
    }  # fmt: skip
    for (name, label, which), figure in expected.items():
        assert registry.get_sample_value(f"{PREFIX}_{name}", {label: which}) == figure, name
    assert registry.get_sample_value(f"{PREFIX}_worker_cpu_ratio", {"worker": "worker-2"}) is None
    assert registry.get_sample_value(f"{PREFIX}_machine_cpu_ratio") == 0.5
    assert registry.get_sample_value(f"{PREFIX}_gpu_utilization_ratio", {"gpu": "0", "name": "GPU"}) == 0.25
    assert registry.get_sample_value(f"{PREFIX}_health_problems") == 2
    assert registry.get_sample_value(f"{PREFIX}_event_listeners") == 8


# --- names, dashboard, docs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_name_as_prometheus_wants_it(name: str) -> None:
    assert re.fullmatch(rf"{PREFIX}_[a-z][a-z_]*", name)
    assert name.endswith("_total") == (NAMES[name] == "counter")
    assert not re.search(r"_(milliseconds|ms|percent|minutes|megabytes|mb)(_|$)", name)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text(encoding="utf-8"))
    return board


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def test_the_dashboard_asks_for_figures_that_there_are() -> None:
    known = set(NAMES)
    for name, kind in NAMES.items():
        if kind == "histogram":
            known |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    asked = {name for query in queries() for name in re.findall(rf"{PREFIX}_[a-z_]+", query)}
    assert asked - known == set()


def test_the_dashboard_shows_every_figure_but_those_of_the_process() -> None:
    text = " ".join(queries())
    missing = {name for name in NAMES if not re.search(rf"{name}(_bucket|_sum|_count)?\{{", text)}
    assert {name for name in missing if not name.startswith(f"{PREFIX}_process_")} == set()


def test_the_dashboard_is_one_that_grafana_can_import() -> None:
    board = dashboard()
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= board.keys() and board["id"] is None
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["refId"] and target["expr"].count("(") == target["expr"].count(")")
                       for target in panel["targets"])  # fmt: skip
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "job"} == variables


def test_prometheus_is_told_where_to_ask() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("demucs-server-worker", "/api/v1/metrics")
