"""The state of queue, workers and machine."""

from __future__ import annotations

from fastapi import APIRouter

from demucs_server_worker.server.services import Given
from demucs_server_worker.wire.status import StatusBody, status_body

router = APIRouter(tags=["server"])


@router.get("/status", summary="The state of queue, workers and machine")
async def get_status(services: Given) -> StatusBody:
    """As `get_status()` in Python, in camelCase."""
    return status_body(services.manager.get_status())
