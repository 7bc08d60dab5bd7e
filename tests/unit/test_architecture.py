"""The layout is the architecture: imports point one way, and the manager's process stays small."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import demucs_server_worker

PACKAGE = Path(demucs_server_worker.__file__).parent
NAME = "demucs_server_worker"

# A room may import from rooms that stand lower, and from itself. `worker.messages` is what crosses the pipe: pure data,
# which the pool must know as the worker does.
HEIGHT = {
    "errors": 0,
    "options": 1, "song_files": 1,
    "task": 2, "retry": 3, "events": 3, "settings": 3, "clock": 3, "sizing": 3, "machine": 3, "folder_lock": 3,
    "publication": 3, "submissions": 3, "result_key": 2, "stem_files": 3,
    "worker.messages": 4, "exposure": 4, "queue_thread": 4, "live": 5, "logs": 5,
    "queue": 5, "pool": 6, "health": 7, "status": 8, "dispatch": 8, "settlement": 8, "workforce": 8,
    "assistant": 8,
    "wire": 9,
    "reuse": 8.5, "answers": 8.7, "recovery": 8,
    "manager": 9,
    "default": 10, "doctor": 10, "measure": 10, "webhooks": 10, "client": 10, "watch": 10,
    "server": 11, "cli": 12, "__main__": 13,
    "": 13,
    "separation": 2, "worker": 5,
    "demo": 0,
}  # fmt: skip

SIBLINGS = {"queue", "pool", "separation"}  # never import one another

# What the command line reads without loading an engine: names and files of models, no torch.
OPEN_TO_ALL = {"separation.catalogue", "separation.hub", "separation.model_files"}

HEAVY = ("torch", "numpy", "av", "soundfile", "soxr", "demucs")


def room_of(module: str) -> str:
    """The room that a module of the package belongs to: `pool.local` → `pool`."""
    if module in HEIGHT:
        return module
    return module.partition(".")[0]


@cache
def arrows() -> list[tuple[str, str]]:
    """(importing module, imported module), both relative to the package, imports inside functions included."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        importer = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == NAME:
                base = (node.module or "")[len(NAME) + 1 :]
                for alias in node.names:
                    as_module = f"{base}.{alias.name}".strip(".")
                    is_module = (PACKAGE / Path(*as_module.split("."))).with_suffix(".py").exists()
                    found.append((importer, as_module if is_module else base))
            elif isinstance(node, ast.Import):
                found += [(importer, n.name[len(NAME) + 1 :]) for n in node.names if n.name.split(".")[0] == NAME]
    return found


def test_every_room_has_its_place() -> None:
    rooms = {room_of(module) for arrow in arrows() for module in arrow if module != "__init__"}
    assert rooms <= HEIGHT.keys()
    assert len(arrows()) > 100


def test_no_import_points_up() -> None:
    wrong = [
        f"{importer} → {imported}"
        for importer, imported in arrows()
        if importer not in ("__init__", "") and imported not in ("", *OPEN_TO_ALL)
        and room_of(importer) != room_of(imported)
        and HEIGHT[room_of(imported)] >= HEIGHT[room_of(importer)]
    ]  # fmt: skip
    assert wrong == []


def test_queue_pool_and_separation_do_not_know_one_another() -> None:
    wrong = [
        f"{importer} → {imported}"
        for importer, imported in arrows()
        if room_of(importer) in SIBLINGS and room_of(imported) in SIBLINGS - {room_of(importer)}
    ]
    assert wrong == []


def test_separation_knows_nothing_of_tasks() -> None:
    known = {room_of(imported) for importer, imported in arrows() if room_of(importer) == "separation"}
    assert known <= {"separation", "errors", "options"}


def test_only_separation_imports_torch() -> None:
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "torch" for name in names):
                importers.add(path.relative_to(PACKAGE).parts[0])
    assert importers == {"separation"}


@pytest.mark.parametrize(
    "module", ["manager", "default", "assistant.assistant", "pool.local", "separation.catalogue", "separation.hub"]
)
def test_the_managers_process_stays_small(module: str) -> None:
    code = f"import sys, {NAME}.{module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_no_file_grows_past_500_lines() -> None:
    assert [p.name for p in PACKAGE.rglob("*.py") if len(p.read_text(encoding="utf-8").splitlines()) > 500] == []
