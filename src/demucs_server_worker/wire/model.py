"""The models that a client may ask for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from demucs_server_worker.wire.base import Shape


class ModelBody(Shape):
    """One model."""

    name: str = Field(description="what the option model takes", examples=["htdemucs"])
    source: Literal["package", "hub", "repo"]
    on_disk: bool = Field(description="whether it works without a download")
    members: int = Field(description="how many networks it has")
    stems: tuple[str, ...] | None = Field(description="what it separates into; null when that is not known yet")
    bytes: int | None = Field(description="size of its files that are on disk")
    note: str = Field(description="what else to know, or what is wrong with it; often empty")


class ModelList(Shape):
    """The models that this server lets clients ask for."""

    default: str = Field(description="the model of tasks that name none", examples=["htdemucs"])
    models: tuple[ModelBody, ...]
