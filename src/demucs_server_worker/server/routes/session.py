"""The session of the web page: it shows the API key once, and its cookie stands for it from then on."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from demucs_server_worker.errors import Unauthorized
from demucs_server_worker.server.gate import is_authenticated
from demucs_server_worker.server.openapi import refusals
from demucs_server_worker.server.paths import SESSION_COOKIE
from demucs_server_worker.server.security import SESSION_SECONDS
from demucs_server_worker.server.services import Given
from demucs_server_worker.wire.base import Form, Shape

router = APIRouter(tags=["session"])


class SessionForm(Form):
    """The API key."""

    key: str = Field(min_length=1, max_length=1_024, description="an API key of the server")


class SessionBody(Shape):
    """Whether a key is needed, and whether this client has shown one."""

    key_needed: bool = Field(description="whether the server asks for a key at all")
    authenticated: bool = Field(description="whether this client needs to show none any more")


@router.get("/session", summary="Whether a key is needed")
async def get_session(services: Given, request: Request) -> SessionBody:
    """Needs no key."""
    return SessionBody(key_needed=services.keys.needed, authenticated=is_authenticated(services, request.headers))


@router.post("/session", summary="Begin a session with a key", responses=refusals(Unauthorized()))
async def begin_session(form: SessionForm, services: Given, request: Request, response: Response) -> SessionBody:
    """For pages in a browser: sets a cookie that scripts cannot read and other sites cannot make use of."""
    if services.keys.needed:
        if not services.keys.fits(form.key):
            raise Unauthorized
        secure = request.headers.get("origin", "").startswith("https:")
        response.set_cookie(
            SESSION_COOKIE, services.sessions.begin(), max_age=SESSION_SECONDS, httponly=True, samesite="strict",
            secure=secure, path="/",
        )  # fmt: skip
    return SessionBody(key_needed=services.keys.needed, authenticated=True)


@router.delete("/session", summary="End the session", status_code=204)
async def end_session(services: Given, request: Request) -> Response:
    """Forgets the cookie, here and in the browser."""
    services.sessions.end(request.cookies.get(SESSION_COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return response
