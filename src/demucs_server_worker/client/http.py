"""How a request, and what went wrong with it, looks to httpx: the same for the blocking and the asynchronous client."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx

from demucs_server_worker.client.effects import Silent, Unanswered
from demucs_server_worker.client.requests import Request
from demucs_server_worker.client.server import Server

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 60.0

_ERRNO = re.compile(r"\[[^\]]*\]\s*")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def settings_of(server: Server) -> dict[str, Any]:
    """The arguments of an httpx client."""
    return {
        "headers": server.headers,
        # As many connections as tasks are followed.
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
        "trust_env": not server.is_on_this_machine,
        "follow_redirects": False,
    }


def arguments_of(request: Request, server: Server, body: Any, read_seconds: float) -> dict[str, Any]:
    """The arguments of httpx's `build_request`.

    Args:
        request: what to send.
        server: to whom.
        body: the upload's bytes, as an iterator; None without one.
        read_seconds: how long the server may say nothing.
    """
    headers, content = dict(request.headers), body
    if request.upload is not None:
        headers["Content-Type"] = request.upload.content_type
        if request.upload.total_bytes is not None:
            headers["Content-Length"] = str(request.upload.total_bytes)
    elif request.json is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(request.json).encode()
    timeout = httpx.Timeout(read_seconds, connect=CONNECT_SECONDS, write=WRITE_SECONDS, pool=None)
    return {
        "method": request.method, "url": server.url + request.path, "params": dict(request.query) or None,
        "headers": headers, "content": content, "timeout": timeout,
    }  # fmt: skip


def unanswered(error: httpx.RequestError) -> Unanswered:
    """What httpx met, as the flows know it."""
    if isinstance(error, httpx.ReadTimeout):
        return Silent("it gives no answer", sent=True)
    if isinstance(error, _NEVER_SENT):
        return Unanswered(_in_words(error), sent=False)
    return Unanswered(f"the connection broke off: {_in_words(error)}", sent=True)


def _in_words(error: BaseException) -> str:
    if _is_refusal(error):
        return "connection refused"
    words = _ERRNO.sub("", str(error)).strip().rstrip(".")
    return words[:1].lower() + words[1:] if words else type(error).__name__


def _is_refusal(error: BaseException | None) -> bool:
    """Whether nobody listened: what tried several addresses tells so only in what it was caused by."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_refusal(each) for each in error.exceptions)
    return error is not None and (
        isinstance(error, ConnectionRefusedError) or _is_refusal(error.__cause__ or error.__context__)
    )


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by names in lower case."""
    return {name.lower(): value for name, value in headers.items()}
