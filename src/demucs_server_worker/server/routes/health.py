"""Whether the server lives, and whether it can work: what asks needs no key and learns nothing else."""

from __future__ import annotations

from fastapi import APIRouter

from demucs_server_worker.errors import NotReady, ShuttingDown
from demucs_server_worker.pool.base import WorkerState
from demucs_server_worker.server.openapi import refusals
from demucs_server_worker.server.services import Given
from demucs_server_worker.wire.status import Alive, Ready

router = APIRouter(tags=["server"])

_ABLE = (WorkerState.IDLE, WorkerState.BUSY)


@router.get("/health/live", summary="Whether the server lives")
async def live() -> Alive:
    """It does, if it answers."""
    return Alive()


@router.get("/health/ready", summary="Whether it can work", responses=refusals(NotReady(), ShuttingDown()))
async def ready(services: Given) -> Ready:
    """It can when it takes tasks and a worker is up."""
    if not services.manager.accepting:
        raise ShuttingDown
    able = [worker for worker in services.manager.workers() if worker.state in _ABLE]
    if not able:
        raise NotReady
    return Ready(workers=len(able))
