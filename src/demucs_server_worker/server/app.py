"""The application: routes, gate and errors put together."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from demucs_server_worker import __version__
from demucs_server_worker.server import pages
from demucs_server_worker.server.gate import Gate
from demucs_server_worker.server.measuring import Measuring
from demucs_server_worker.server.openapi import describe
from demucs_server_worker.server.problems import answer_with_problems
from demucs_server_worker.server.routes import events, health, metrics, models, session, status, stems, submit, tasks
from demucs_server_worker.server.services import Services
from demucs_server_worker.wire.task import API

ROUTERS = (
    submit.router, tasks.router, events.router, stems.router, status.router, models.router, health.router,
    session.router, metrics.router,
)  # fmt: skip
"""Where two routes fit one address, the one that stands first answers."""


def create_app(services: Services) -> FastAPI:
    """The HTTP API and the web page over `services`, as an ASGI application."""
    app = routed_app()
    app.state.services = services
    app.add_middleware(Gate, services=services)
    app.add_middleware(Measuring, metrics=services.metrics)
    return app


def routed_app() -> FastAPI:
    """The routes and their description alone, which need no services to be looked at."""
    app = FastAPI(
        title="demucs-server-worker", version=__version__, docs_url=None, redoc_url=None, openapi_url=None,
        redirect_slashes=False, generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    answer_with_problems(app)
    api = APIRouter(prefix=API)
    for router in ROUTERS:
        api.include_router(router)
    app.include_router(api)
    app.include_router(pages.router())
    describe(app)
    return app
