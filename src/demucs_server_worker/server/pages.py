"""The web page and what it is made of, and the API's own description."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from demucs_server_worker.errors import TaskNotFound
from demucs_server_worker.server.docs_page import docs_page

FOLDER = Path(__file__).parent / "static"

# Said here: what the system's table of types holds differs from machine to machine, and browsers are told not to guess.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page, read once at start: what is not listed then cannot be asked for."""

    content: bytes
    media_type: str
    etag: str

    def answer(self, request: Request) -> Response:
        """The file; or that the browser has it already."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if self.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def read_assets(folder: Path) -> dict[str, Asset]:
    """The files below `folder` by their relative path, with `/` between its parts."""
    return {
        path.relative_to(folder).as_posix(): _asset(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in TYPES
    }


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def router(folder: Path = FOLDER) -> APIRouter:
    """`/` is index.html, the rest lies under `/static/`; `/docs` and `/openapi.json` describe the API."""
    routes = APIRouter(include_in_schema=False)
    assets = read_assets(folder)

    def asset(name: str, request: Request) -> Response:
        if name not in assets:
            raise TaskNotFound(f"There is nothing at {request.url.path}.")
        return assets[name].answer(request)

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return asset("index.html", request)

    @routes.api_route("/static/{path:path}", methods=["GET", "HEAD"])
    async def static(path: str, request: Request) -> Response:
        return asset(path, request)

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return JSONResponse(_description(request))

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        return HTMLResponse(docs_page(_description(request)))

    return routes


def _description(request: Request) -> dict[str, Any]:
    app = request.app
    assert isinstance(app, FastAPI)  # noqa: S101 - whose routes these are
    return app.openapi()
