"""The separation options as they cross the wire: the same names as in Python, in camelCase."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from demucs_server_worker.options import (
    DEFAULT_FILENAME,
    AudioFormat,
    BitDepth,
    ClipMode,
    OtherMethod,
    Precision,
    Residual,
)
from demucs_server_worker.wire.base import Shape


class OptionsBody(Shape):
    """How a song is separated and written."""

    model: str = Field("htdemucs", description="a Demucs name, hf://namespace/name, or demo")
    stems: tuple[str, ...] | None = Field(None, description="only these are computed and written; null means all")
    two_stems: str | None = Field(None, description="one stem: writes it and no_<stem>")
    other_method: OtherMethod = Field("add", description="how no_<stem> is made: add the others, or minus the stem")
    format: AudioFormat = "wav"
    bit_depth: BitDepth = Field("16", description="16, 24 or float32 for wav; 16 or 24 for flac")
    bitrate: int = Field(320, description="kbit/s of the lossy formats, 32 to 512")
    mp3_preset: int = Field(2, description="2 (best) to 7 (fastest)")
    shifts: int = Field(0, description="random shifts to average, 0 to 100")
    overlap: float = Field(0.25, description="part of a segment that overlaps the next, 0 to 0.99")
    segment: float | None = Field(None, description="seconds; null means the model's own")
    split: bool = Field(True, description="false hands the whole song to the model at once")
    clip_mode: ClipMode = Field("rescale", description="one gain for all stems, a cut at ±0.99, or neither")
    residual: Residual = Field("none", description="other: what the stems miss of the mix is added to other")
    sample_rate: Literal["source", "model"] | int = Field("source", description="source, model, or 8000 to 192000 Hz")
    filename: str = Field(DEFAULT_FILENAME, description="template of a stem's path below the output folder")
    device: str = Field("auto", description="auto, cpu, mps, cuda or cuda:N")
    precision: Precision = Field("auto", description="auto, fp32, bf16 or fp16")
