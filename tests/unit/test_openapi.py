"""The API's description of itself is complete, and true to the shapes that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from demucs_server_worker.errors import QueueFull, TaskNotFound
from demucs_server_worker.server.docs_page import docs_page
from demucs_server_worker.server.openapi import refusals
from demucs_server_worker.server.paths import OPEN_PATHS
from demucs_server_worker.server.problems import RETRY_AFTER_SECONDS
from demucs_server_worker.wire.problem import PROBLEM_TYPE
from tests.http_server import described

DESCRIPTION = described()
OPERATIONS = [
    pytest.param(path, operation, id=f"{method.upper()} {path}")
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
]
SCHEMAS = DESCRIPTION["components"]["schemas"]


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Status, media type and content of each answer."""
    for status, response in operation["responses"].items():
        for kind, content in response.get("content", {}).items():
            yield status, kind, content


def validate(schema: dict[str, Any], value: object) -> None:
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": DESCRIPTION["components"],
        **schema,
    }
    jsonschema_rs.validator_for(whole).validate(value)


def refs(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from refs(each)
    elif isinstance(value, list):
        for each in value:
            yield from refs(each)


@pytest.mark.parametrize(("path", "operation"), OPERATIONS)
def test_a_route_says_what_it_does_and_answers(path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"] and operation["description"] and operation["tags"]
    good = [response for status, response in operation["responses"].items() if status < "300"]
    assert good
    assert all(response["description"] for response in good)
    bodies = [content for status, kind, content in contents(operation) if status < "300"]
    assert bodies or "204" in operation["responses"]
    assert all("schema" in content for content in bodies)


@pytest.mark.parametrize(("path", "operation"), OPERATIONS)
def test_every_refusal_of_a_route_is_a_problem_with_valid_examples(path: str, operation: dict[str, Any]) -> None:
    bad = {status: response for status, response in operation["responses"].items() if status >= "400"}
    assert {"400", "403", "500", "503"} <= bad.keys()
    for status, response in bad.items():
        assert list(response["content"]) == [PROBLEM_TYPE]
        content = response["content"][PROBLEM_TYPE]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert content["examples"]
        for code, example in content["examples"].items():
            validate(content["schema"], example["value"])
            assert example["value"]["code"] == code
            assert str(example["value"]["status"]) == status
        assert ("Retry-After" in response["headers"]) == any(c in RETRY_AFTER_SECONDS for c in content["examples"])


@pytest.mark.parametrize(("path", "operation"), OPERATIONS)
def test_who_needs_a_key_is_said(path: str, operation: dict[str, Any]) -> None:
    if path in OPEN_PATHS:
        assert operation["security"] == []
        assert path.endswith("/session") or "401" not in operation["responses"]
    else:
        assert "security" not in operation, "that of the whole API holds"
        assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    assert DESCRIPTION["security"] == [{"bearer": []}, {"apiKey": []}, {"session": []}]


@pytest.mark.parametrize(("path", "operation"), OPERATIONS)
def test_a_task_that_was_taken_has_a_location(path: str, operation: dict[str, Any]) -> None:
    if "202" in operation["responses"]:
        assert "Location" in operation["responses"]["202"]["headers"]


def test_nothing_is_referred_to_that_is_not_there() -> None:
    found = set(refs(DESCRIPTION))
    assert {"#/components/schemas/TaskBody", "#/components/schemas/Submission"} <= found
    assert [ref for ref in found if ref.removeprefix("#/components/schemas/") not in SCHEMAS] == []


def test_fastapis_own_shape_of_an_error_is_gone() -> None:
    assert "HTTPValidationError" not in str(DESCRIPTION)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_examples_of_a_shape_are_valid(name: str) -> None:
    for example in SCHEMAS[name].get("examples", []):
        validate(SCHEMAS[name], example)
    for schema in SCHEMAS[name].get("properties", {}).values():
        for example in schema.get("examples", []):
            validate(schema, example)


def test_shapes_are_in_camel_case() -> None:
    names = [name for schema in SCHEMAS.values() for name in schema.get("properties", {})]
    assert {"fileId", "queuePosition", "sampleRate", "rssBytes", "byPriority"} <= set(names)
    assert [name for name in names if "_" in name] == []


def test_errors_of_one_status_are_examples_beside_each_other() -> None:
    made = refusals(TaskNotFound(task_id="a"), QueueFull(queued=3))
    assert list(made) == [404, 503]
    assert made[404]["content"][PROBLEM_TYPE]["examples"]["not_found"]["value"]["detail"].startswith(
        "There is no task a"
    )


def test_the_page_shows_every_route_and_no_script() -> None:
    page = docs_page(DESCRIPTION)
    for path in DESCRIPTION["paths"]:
        assert path.replace("{", "&#123;") in page or path in page
    assert "<script" not in page and "style=" not in page
    assert "http://" not in page.replace("http://www", "") and "cdn" not in page
    assert page.count("<section") == page.count("</section>") > len(DESCRIPTION["paths"])


def test_what_the_description_says_cannot_become_markup() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    description = {
        "info": {"title": hostile, "version": hostile, "description": hostile},
        "paths": {f"/{hostile}": {"get": {
            "operationId": f'"{hostile}', "summary": hostile, "description": hostile,
            "parameters": [{"name": hostile, "in": "query", "schema": {"type": hostile}, "description": hostile}],
            "responses": {hostile: {"description": hostile, "content": {hostile: {"examples": {hostile: {}}}}}},
        }}},
        "components": {"schemas": {
            f'"{hostile}': {"properties": {hostile: {"enum": [hostile]}}, "examples": [hostile]},
        }},
    }  # fmt: skip
    page = docs_page(description)
    assert "<img" not in page and '"<' not in page.replace("&quot;", "")
    assert page.count("&lt;img") > 10
