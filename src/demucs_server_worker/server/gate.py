"""What every request passes before it reaches a route: who may ask, and what every answer carries."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demucs_server_worker.errors import DemucsWorkerError, Forbidden, InvalidRequest, NotReady, Unauthorized
from demucs_server_worker.server.closing import drop_the_rest, is_sending
from demucs_server_worker.server.intake import Intake, announces_body, check_announced, is_upload
from demucs_server_worker.server.paths import API_PREFIX, HEALTH_PATHS, OPEN_PATHS, SESSION_COOKIE
from demucs_server_worker.server.problems import UNFORESEEN, problem_of, problem_response
from demucs_server_worker.server.protocol import is_spare
from demucs_server_worker.server.security import (
    SAFE_METHODS,
    Names,
    comes_from_elsewhere,
    shown_key,
)
from demucs_server_worker.server.services import Services

MOST_HEADERS = 100
MOST_HEADER_BYTES = 32_768

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_CROWDED = (
    "The server has as many connections as DEMUCS_WORKER_MAX_CONNECTIONS allows. Try again in a moment, with fewer at "
    "once."
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_log = structlog.get_logger("demucs_server_worker.access")


class Gate:
    """ASGI middleware: numbers the request, checks it, guards the answer and writes a line about it."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        """Args: app: what is behind the gate; services: of the server."""
        self._app = app
        self._services = services
        self._names = Names(services.settings.host, services.settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other scopes (there are none) go through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = Intake(receive)
        answer = _Answer(scope, receive, send, _request_id(headers), body if announces_body(headers) else None)
        began = time.monotonic()
        with structlog.contextvars.bound_contextvars(request=answer.request_id):
            try:
                self._admit(scope, headers)
                if is_upload(scope, headers):
                    answer.leave_body()
                await self._app(scope, receive if is_upload(scope, headers) else body.receive, answer.send)
            except DemucsWorkerError as error:
                await answer.fail(problem_response(problem_of(error)))
            except Exception:
                _log.exception("request failed", method=scope["method"], path=scope["path"])
                await answer.fail(problem_response(UNFORESEEN))
            finally:
                self._note(scope, answer, time.monotonic() - began)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        if is_spare(scope) and scope["path"] not in HEALTH_PATHS:
            raise NotReady(_CROWDED)
        if len(scope["headers"]) > MOST_HEADERS:
            raise InvalidRequest(detail=f"it has more than {MOST_HEADERS} headers.")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADER_BYTES:
            raise InvalidRequest(detail=f"its headers have more than {MOST_HEADER_BYTES} bytes.")
        if not self._names.include(headers.get("host", "")):
            raise Forbidden(
                detail="this server is not known by that name. DEMUCS_WORKER_ALLOWED_HOSTS lists further names."
            )
        if scope["method"] not in SAFE_METHODS and comes_from_elsewhere(headers):
            raise Forbidden(detail="a page of another site may change nothing here.")
        if not is_upload(scope, headers):
            check_announced(headers)
        if scope["path"].startswith(API_PREFIX) and scope["path"] not in OPEN_PATHS:
            if not is_authenticated(self._services, headers):
                raise Unauthorized

    def _note(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        status = answer.status or 499  # the client went away before there was an answer
        level = "error" if status >= 500 and status != 503 else "info" if status >= 400 else "debug"
        if scope["path"] in HEALTH_PATHS and status == 503:
            level = "debug"  # whoever watches the server asks every second, and has the answer
        getattr(_log, level)(
            "request", method=scope["method"], path=scope["path"], status=status, milliseconds=round(seconds * 1000, 1)
        )


class _Answer:
    """The answer on its way out: headers that all have are added, and its status is remembered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, body: Intake | None) -> None:
        """Args: body: of the request, where it has one."""
        self.status: int | None = None
        self.request_id = request_id
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body = body

    def leave_body(self) -> None:
        """The route takes in the body by itself, and sees to what is left of it."""
        self._body = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._complete(MutableHeaders(scope=message))
        elif self._ends_early and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._listen_on()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def fail(self, response: Response) -> None:
        """Answer with `response`; where an answer has begun already, the connection is all that can be broken off."""
        if self.status is not None:
            raise ConnectionAbortedError("the answer broke off")
        await response(self._scope, self._receive, self.send)

    async def _listen_on(self) -> None:
        # Closing on a client that still sends resets the connection, and may take the answer along.
        if is_sending(self._scope, has_begun=self._body is not None and self._body.has_begun):
            await drop_the_rest(self._receive)

    @property
    def _ends_early(self) -> bool:
        """Whether this is a refusal of a request whose body has not been read to its end."""
        unread = self._body is not None and not self._body.is_complete
        return unread and self.status is not None and self.status >= 400

    def _complete(self, headers: MutableHeaders) -> None:
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        headers["X-Request-ID"] = self.request_id
        if self._scope["path"].startswith(API_PREFIX):
            headers.setdefault("Cache-Control", "no-store")
        if self._ends_early or is_spare(self._scope):
            # What is left of the body would be taken for the next request, or waited for; and others want to be heard.
            headers["Connection"] = "close"


def is_authenticated(services: Services, headers: Headers) -> bool:
    """Whether a request shows a key or has a session, or needs neither."""
    if not services.keys.needed:
        return True
    key = shown_key(headers)
    if key is not None:
        return services.keys.fits(key)
    token = cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE)
    return token is not None and services.sessions.is_open(token)


def _request_id(headers: Headers) -> str:
    given: Any = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
