"""Documentation that cannot rot: what the code knows, the docs name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from demucs_server_worker import errors
from demucs_server_worker.cli.app import app
from demucs_server_worker.events import EventKind
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.server.problems import STATUS
from demucs_server_worker.settings import Settings, environment_name
from demucs_server_worker.task import Stage, TaskState
from tests.http_server import API, operations

ROOT = Path(__file__).parents[2]


def doc(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tree(root: type[errors.DemucsWorkerError]) -> set[type[errors.DemucsWorkerError]]:
    return {root}.union(*(tree(child) for child in root.__subclasses__()))


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_documented_with_its_doc(field: str) -> None:
    row = next(line for line in doc("docs/settings.md").splitlines() if f"| `{field}` |" in line)
    assert f"`{environment_name(field)}`" in row
    assert (Settings.model_fields[field].description or "–") in row


@pytest.mark.parametrize("option", SeparationOptions.__struct_fields__)
def test_every_option_is_documented(option: str) -> None:
    assert f"| `{option}` |" in doc("docs/separation.md")


@pytest.mark.parametrize("word", [*TaskState, *EventKind, *Stage])
def test_every_state_event_and_stage_is_documented(word: str) -> None:
    assert f"`{word}`" in doc("docs/tasks.md")


def test_every_error_code_is_documented() -> None:
    internal = {"internal", "task_failed", "task_cancelled", "cancelled"}  # never seen outside the process
    codes = {error.code for error in tree(errors.DemucsWorkerError)} - internal
    assert codes - set(re.findall(r"`([a-z_]+)`", doc("docs/tasks.md"))) == set()


@pytest.mark.parametrize("error", sorted(tree(errors.DemucsWorkerError), key=lambda error: error.__name__))
def test_every_error_says_what_happened_in_a_sentence(error: type[errors.DemucsWorkerError]) -> None:
    assert error.__doc__ is not None
    assert error.__doc__.strip().endswith((".", "}"))
    assert "\n    " not in errors.DemucsWorkerError.__str__(errors.DemucsWorkerError("x"))


@pytest.mark.parametrize(("method", "path"), operations())
def test_every_route_is_documented(method: str, path: str) -> None:
    assert f"| `{method} {path.removeprefix(API)}` |" in doc("docs/http-api.md")


@pytest.mark.parametrize(("code", "status"), STATUS.items())
def test_every_code_that_http_answers_with_is_documented_at_its_status(code: str, status: int) -> None:
    row = next(line for line in doc("docs/http-api.md").splitlines() if f"`{code}`" in line and line[2:5].isdigit())
    assert str(status) in row.split("|")[1]


def test_every_command_is_documented() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    commands = [each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands]
    assert "bench" in commands
    forms = ("demucs-server-worker {}", "make {}", "`{} ", "`{}`")
    assert [name for name in commands if not any(form.format(name) in pages for form in forms)] == []


def test_every_file_that_the_readme_links_to_is_there() -> None:
    for page in [Path("README.md"), *(path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", doc(str(page))):
            assert (ROOT / page.parent / target).exists(), f"{page} links to {target}"


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", doc("Makefile"), flags=re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", doc("README.md") + doc("CONTRIBUTING.md")))
    assert named <= targets
