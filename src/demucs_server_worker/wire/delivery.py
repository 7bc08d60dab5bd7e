"""What a webhook is told."""

from __future__ import annotations

from pydantic import Field

from demucs_server_worker.events import EventKind
from demucs_server_worker.wire.base import Moment, Shape
from demucs_server_worker.wire.task import TaskBody


class DeliveryBody(Shape):
    """The body of a request to a webhook."""

    id: str = Field(description="of this delivery, the same over all tries", examples=["271f55f4b08f01ec"])
    event: EventKind = Field(description="what happened", examples=["completed"])
    created_at: Moment = Field(description="when it happened")
    task: TaskBody = Field(description="the task as it was after the event")
