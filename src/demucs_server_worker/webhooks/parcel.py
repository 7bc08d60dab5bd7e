"""A delivery as it is sent. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from demucs_server_worker import __version__
from demucs_server_worker.events import EventKind
from demucs_server_worker.queue.deliveries import Delivery
from demucs_server_worker.webhooks import signature
from demucs_server_worker.wire.delivery import DeliveryBody
from demucs_server_worker.wire.task import task_body

EVENT_HEADER = "Demucs-Worker-Event"
DELIVERY_HEADER = "Demucs-Worker-Delivery"


def body_of(delivery: Delivery) -> bytes:
    """The body: the same bytes at every try."""
    told = DeliveryBody(
        id=delivery.id,
        event=EventKind(delivery.event),
        created_at=datetime.fromtimestamp(delivery.happened_at, UTC),
        task=task_body(delivery.task, remote=True),
    )
    return told.model_dump_json().encode()


def headers_of(delivery: Delivery, body: bytes, secret: str, now: float) -> dict[str, str]:
    """The headers of one try. Args: now: epoch seconds, as the receiver's clock has it too."""
    return {
        "Content-Type": "application/json",
        "User-Agent": f"demucs-server-worker/{__version__}",
        "Accept-Encoding": "identity",
        EVENT_HEADER: delivery.event,
        DELIVERY_HEADER: delivery.id,
        signature.HEADER: signature.sign(secret, body, now),
    }
