"""The models that a client may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from demucs_server_worker.wire.base import Shape
from demucs_server_worker.wire.redaction import without_paths

if TYPE_CHECKING:
    from demucs_server_worker.separation.catalogue import ModelInfo


class ModelBody(Shape):
    """One model."""

    name: str = Field(description="what the option model takes", examples=["htdemucs"])
    source: Literal["package", "hub", "repo"]
    on_disk: bool = Field(description="whether it works without a download")
    members: int = Field(description="how many networks it has")
    stems: tuple[str, ...] | None = Field(description="what it separates into; null when that is not known yet")
    bytes: int | None = Field(description="size of its files that are on disk")
    note: str = Field(description="what else to know, or what is wrong with it; often empty")


def model_body(model: ModelInfo, *, remote: bool = False) -> ModelBody:
    """The model for the wire. Args: remote: whether it goes to an HTTP client, who may not know the server's paths."""
    return ModelBody(
        name=model.name, source=model.source, on_disk=model.on_disk, members=model.members, stems=model.stems,
        bytes=model.bytes, note=without_paths(model.note) if remote else model.note,
    )  # fmt: skip


class ModelList(Shape):
    """The models that this server lets clients ask for."""

    default: str = Field(description="the model of tasks that name none", examples=["htdemucs"])
    models: tuple[ModelBody, ...]
