"""What all shapes share: names in camelCase outside and snake_case inside, and how a moment is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel


def moment(epoch_seconds: float | None) -> datetime | None:
    """Epoch seconds as a time in UTC."""
    return None if epoch_seconds is None else datetime.fromtimestamp(epoch_seconds, UTC)


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[
    AwareDatetime,
    PlainSerializer(_iso, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-22T10:15:00.000Z"]}),
]
"""A time, written as ISO 8601 in UTC with milliseconds."""


class Shape(BaseModel):
    """Base of what is sent: a reader ignores fields that it does not know, so that an older client understands a newer
    server."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_alias=True, validate_by_name=True, serialize_by_alias=True, frozen=True,
        extra="ignore", protected_namespaces=(),
    )  # fmt: skip


class Form(Shape):
    """Base of what is asked: a name that nobody knows is an error, since it was meant to do something."""

    model_config = ConfigDict(extra="forbid")
