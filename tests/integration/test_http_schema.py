"""The API keeps to its own description: schemathesis asks every route of a live server what the description allows, and
what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.http_server import InProcess, operations, serving

EXAMPLES = [12, pytest.param(150, marks=pytest.mark.slow)]

# Streams that end with their task, or never: they are read where they are tested.
STREAMS = ("/api/v1/events", "/api/v1/tasks/{task_id}/events")
ROUTES = [(method, path) for method, path in operations() if path not in STREAMS]

# What fits each field can still not fit together (`stems` beside `two_stems`), or not be there (a model, a song).
ALLOWED_REFUSALS = ["2xx", "3xx", "401", "403", "404", "409", "413", "415", "422", "503"]


KEY = {"Authorization": "Bearer the-key-of-this-test"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, workers=2, headers=KEY, api_keys="the-key-of-this-test") as server:
        yield server


@pytest.fixture(scope="module")
def known(server: InProcess) -> list[str]:
    """The ids of a task in each final state."""
    tasks = [server.submit(script) for script in ("succeed", "raise unreadable", "wait")]
    server.client.post(f"/api/v1/tasks/{tasks[-1]['id']}/cancel").raise_for_status()
    return [server.until_state(task["id"], "completed", "failed", "cancelled")["id"] for task in tasks]


@pytest.fixture(scope="module")
def schema(server: InProcess) -> schemathesis.BaseSchema:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    schema.config.checks.positive_data_acceptance.expected_statuses = ALLOWED_REFUSALS
    return schema


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[f"{method} {path}" for method, path in ROUTES])
def test_a_route_keeps_to_its_description(
    method: str, path: str, examples: int, schema: schemathesis.BaseSchema, server: InProcess, known: list[str]
) -> None:  # fmt: skip
    operation = schema[path][method]
    right, wrong = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @bounded(examples)
    @given(case=right, task_id=st.sampled_from(known), allowed=st.booleans())
    def what_fits(case: Any, task_id: str, allowed: bool) -> None:
        if "task_id" in case.path_parameters:
            case.path_parameters["task_id"] = task_id
        if allowed and isinstance(case.body, dict) and "inputPath" in case.body:
            case.body |= server.submission()
        case.call_and_validate(headers=KEY)

    @bounded(examples)
    @given(case=wrong)
    def what_does_not(case: Any) -> None:
        case.call_and_validate(headers=KEY)

    what_fits()
    if list(operation.iter_parameters()) or operation.body:
        what_does_not()
