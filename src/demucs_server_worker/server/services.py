"""What the routes work with: the manager, and what the server keeps beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.server.security import Keys, Sessions
from demucs_server_worker.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Services:
    """All that a route may need; handed down, never global.

    Attributes:
        manager: started.
        settings: the manager's.
        keys: the API keys, hashed.
        sessions: of web pages that have shown a key.
    """

    manager: WorkerManager
    settings: Settings
    keys: Keys
    sessions: Sessions


@asynccontextmanager
async def opened(manager: WorkerManager) -> AsyncIterator[Services]:
    """The services over a manager that has been started; what they began is ended with the block."""
    yield Services(
        manager=manager, settings=manager.settings, keys=Keys(manager.settings.api_keys), sessions=Sessions()
    )


async def _given(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - put there by `create_app`
    return services


Given = Annotated[Services, Depends(_given)]
"""The annotation of a route's parameter that gets the services: `async def route(services: Given)`."""
