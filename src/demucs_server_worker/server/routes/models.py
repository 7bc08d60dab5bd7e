"""The models that a client may ask for."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from demucs_server_worker.separation import catalogue
from demucs_server_worker.server.services import Given
from demucs_server_worker.wire.model import ModelList, model_body

router = APIRouter(tags=["server"])


@router.get("/models", summary="The models that may be asked for")
async def list_models(services: Given) -> ModelList:
    """Those that DEMUCS_WORKER_MODELS names, or all that there are."""
    settings = services.settings
    # It looks at files, which a slow disk must not make everybody wait for.
    found = await asyncio.to_thread(catalogue.list_models, settings.model_repo)
    allowed = (*settings.models, settings.model) if settings.models else ()
    shown = [model for model in found if not allowed or model.name in allowed]
    return ModelList(default=settings.model, models=tuple(model_body(model, remote=True) for model in shown))
