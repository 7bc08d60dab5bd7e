"""What a client sends to have a song separated."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from demucs_server_worker.options import AudioFormat, ClipMode, OtherMethod, Precision, Residual
from demucs_server_worker.wire.base import Form

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
PathText = Annotated[str, StringConstraints(min_length=1, max_length=4_096)]


WebhookUrl = Annotated[str, StringConstraints(min_length=8, max_length=2_048)]


class WebhookForm(Form):
    """Where to tell the events of the task, and which."""

    model_config = ConfigDict(strict=True)

    url: str = Field(min_length=8, max_length=2_048, examples=["https://studio.example/hooks/stems"])
    events: list[str] | None = Field(default=None, description="completed, failed and cancelled by default")


class TaskForm(Form):
    """What goes with a song, however the song itself gets to the server. What is left out takes its default; limits
    that hang on several fields are checked by the server."""

    model_config = ConfigDict(strict=True)

    file_id: Text | None = Field(
        default=None,
        description="the caller's own id: the same id with the same request is the same task",
        examples=["file123"],
    )
    project_name: Text | None = Field(default=None, examples=["My Project"])
    input_name: Text | None = Field(default=None, description="the song's name for people; by default that of the file")
    priority: Literal["high", "normal", "low"] | None = Field(default=None, description="normal by default")
    webhook: WebhookUrl | WebhookForm | None = Field(None, description="where to tell the task's events")
    model: str | None = Field(
        default=None, description="by default the server's", max_length=200, examples=["htdemucs"]
    )
    stems: list[Word] | None = Field(
        default=None, description="only these; all by default", min_length=1, max_length=32
    )
    two_stems: Word | None = Field(default=None, description="one stem: writes it and no_<stem>", examples=["vocals"])
    other_method: OtherMethod | None = Field(default=None, description="how no_<stem> is made: add by default")
    format: AudioFormat | None = Field(default=None, description="wav by default", examples=["flac"])
    bit_depth: Literal["16", "24", "float32", 16, 24] | None = Field(default=None, description="16 by default")
    bitrate: int | None = Field(default=None, ge=32, le=512, description="kbit/s of the lossy formats, 320 by default")
    mp3_preset: int | None = Field(default=None, ge=2, le=7, description="2 (best, the default) to 7 (fastest)")
    shifts: int | None = Field(default=None, ge=0, le=100, description="random shifts to average, 0 by default")
    overlap: float | None = Field(default=None, ge=0, le=0.99, description="part of a segment, 0.25 by default")
    segment: float | None = Field(default=None, ge=0.1, le=600, description="seconds; by default the model's own")
    split: bool | None = Field(default=None, description="true by default")
    clip_mode: ClipMode | None = Field(default=None, description="rescale by default")
    residual: Residual | None = Field(default=None, description="none by default")
    sample_rate: Literal["source", "model"] | Annotated[int, Field(ge=8_000, le=192_000)] | None = Field(
        default=None, description="source by default, model, or Hz"
    )
    filename: str | None = Field(
        default=None, max_length=512, description="template of a stem's path", examples=["{stem}.{ext}"]
    )
    device: str | None = Field(
        default=None, pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$", description="by default the server's"
    )
    precision: Precision | None = Field(default=None, description="by default the server's")

    def given(self) -> dict[str, Any]:
        """What was given, by the names that `TaskRequest.parse` takes; the webhook aside."""
        return self.model_dump(by_alias=False, exclude={"webhook"}, exclude_none=True)


class Submission(TaskForm):
    """A song that lies on the server, below a folder that it allows."""

    input_path: PathText = Field(description="path of the song on the server", examples=["/srv/music/song.mp3"])
    output_dir: PathText = Field(description="folder below which the stems are written", examples=["/srv/stems"])
