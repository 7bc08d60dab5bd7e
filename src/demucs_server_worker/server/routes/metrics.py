"""Figures for Prometheus."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder

from demucs_server_worker.server.services import Given

router = APIRouter(tags=["server"])

_EXAMPLE = "# HELP demucs_worker_tasks_queued Tasks that wait\n# TYPE demucs_worker_tasks_queued gauge\n"
_FIGURES: dict[str, Any] = {
    "description": "The figures, in Prometheus' text format or, where the client asks for it, in OpenMetrics",
    "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
}


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response, responses={200: _FIGURES})
async def metrics(services: Given, accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
    """docs/operations.md lists them."""
    encode, media_type = choose_encoder(accept)
    return Response(encode(services.metrics.registry), media_type=media_type)
