"""The SQL of the queue, one verb a file, read from the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

_SQL = files("demucs_server_worker.queue") / "sql"


@cache
def statement(verb: str) -> str:
    """The statement in `sql/<verb>.sql`."""
    return (_SQL / f"{verb}.sql").read_text(encoding="utf-8")


@cache
def migrations() -> tuple[str, ...]:
    """The scripts that take a database from schema 0 to 1, from 1 to 2, and so on."""
    scripts = [entry for entry in (_SQL / "migrations").iterdir() if entry.name.endswith(".sql")]
    return tuple(script.read_text(encoding="utf-8") for script in sorted(scripts, key=lambda entry: entry.name))
