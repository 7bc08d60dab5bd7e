"""The models that a client may ask for."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from demucs_server_worker.separation import catalogue
from demucs_server_worker.separation.catalogue import ModelInfo
from demucs_server_worker.server.services import Given
from demucs_server_worker.wire.model import ModelBody, ModelList
from demucs_server_worker.wire.redaction import without_paths

router = APIRouter(tags=["server"])


@router.get("/models", summary="The models that may be asked for")
async def list_models(services: Given) -> ModelList:
    """Those that DEMUCS_WORKER_MODELS names, or all that there are."""
    settings = services.settings
    # It looks at files, which a slow disk must not make everybody wait for.
    found = await asyncio.to_thread(catalogue.list_models, settings.model_repo)
    allowed = (*settings.models, settings.model) if settings.models else ()
    shown = [model for model in found if not allowed or model.name in allowed]
    return ModelList(default=settings.model, models=tuple(_body(model) for model in shown))


def _body(model: ModelInfo) -> ModelBody:
    return ModelBody(
        name=model.name, source=model.source, on_disk=model.on_disk, members=model.members, stems=model.stems,
        bytes=model.bytes, note=without_paths(model.note),
    )  # fmt: skip
