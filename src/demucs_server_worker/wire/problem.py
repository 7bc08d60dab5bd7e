"""An error as HTTP tells it: `application/problem+json`, RFC 9457."""

from __future__ import annotations

from pydantic import Field

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.wire.base import Shape

PROBLEM_TYPE = "application/problem+json"


class ErrorBody(Shape):
    """Why a task failed."""

    code: str = Field(description="one of the documented codes, for programs", examples=["input_unreadable"])
    message: str = Field(description="what happened and what to do, for people")
    retryable: bool = Field(description="whether another attempt of the same task can end otherwise")


class Problem(Shape):
    """Why a request was refused."""

    type: str = Field(default="about:blank", description="always about:blank: `code` tells the kind")
    title: str = Field(description="the meaning of the status", examples=["Not Found"])
    status: int = Field(description="the HTTP status", ge=400, le=599, examples=[404])
    detail: str = Field(description="what happened and what to do, for people")
    code: str = Field(description="one of the documented codes, for programs", examples=["not_found"])
    retryable: bool = Field(description="whether the same request can succeed later")
    task_id: str | None = Field(default=None, description="the task that it is about, where there is one")

    @property
    def error(self) -> ErrorInfo:
        """The error that the server met, as data."""
        return ErrorInfo(code=self.code, message=self.detail, retryable=self.retryable)


def error_body(error: ErrorInfo | None) -> ErrorBody | None:
    """The error for the wire."""
    if error is None:
        return None
    return ErrorBody(code=error.code, message=error.message, retryable=error.retryable)
