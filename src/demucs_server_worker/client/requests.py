"""The requests of the HTTP API, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import quote

from demucs_server_worker.client.upload import Upload

API = "/api/v1"

ANSWER_SECONDS = 30.0
# What was uploaded is looked into before the answer.
UPLOAD_ANSWER_SECONDS = 180.0

Method = Literal["GET", "POST", "DELETE"]


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: of HTTP.
        path: below the server's address.
        query: parameters.
        headers: beside those of every request.
        json: the body, as JSON; None for none.
        upload: the body, as a form with a file.
        repeatable: whether the server does the same, and no more, when it hears the request twice.
        answer_seconds: how long the server may think about it.
    """

    method: Method
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    upload: Upload | None = None
    repeatable: bool = True
    answer_seconds: float = ANSWER_SECONDS

    def with_headers(self, **headers: str) -> Request:
        """The same with more headers; `_` in a name stands for `-`."""
        return replace(self, headers={**self.headers, **{name.replace("_", "-"): headers[name] for name in headers}})


def get(*parts: str, query: Mapping[str, str | None] | None = None) -> Request:
    """GET of a path made of `parts`, each quoted; parameters that are None are left out."""
    return Request("GET", _path(parts), query={name: value for name, value in (query or {}).items() if value})


def change(method: Method, *parts: str) -> Request:
    """A request without a body that changes a task, and would be refused when heard twice."""
    return Request(method, _path(parts), repeatable=False)


def add(fields: Mapping[str, Any], key: str | None) -> Request:
    """A task over files that the server can reach.

    Args:
        fields: in camelCase.
        key: makes a repeated request the same task, where the fields have no id of the caller's that does.
    """
    return Request("POST", f"{API}/tasks", headers=_idempotent(key), json=dict(fields))


def add_upload(upload: Upload, key: str | None) -> Request:
    """A task over a file that goes along. Args: as `add`; the upload has the fields."""
    return Request(
        "POST", f"{API}/tasks", headers=_idempotent(key), upload=upload, repeatable=upload.can_be_repeated,
        answer_seconds=UPLOAD_ANSWER_SECONDS,
    )  # fmt: skip


def _idempotent(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _path(parts: tuple[str, ...]) -> str:
    return "/".join((API, *(quote(part, safe="") for part in parts)))
