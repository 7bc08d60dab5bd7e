"""What a separation is given and what it gives: plain data, without a task, a queue or a process in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from demucs_server_worker.options import SeparationOptions

SeparationStage = Literal["decoding", "separating", "encoding"]


@dataclass(frozen=True)
class SeparationJob:
    """One song to separate.

    Attributes:
        input_path: the song.
        input_name: its name for people, for errors and for `{track}`.
        staging: folder to write into; created here, and removed again unless the separation succeeds.
        output_dir: folder below which the stems will belong; created if missing.
        options: what was asked for.
        project_name: for `{project}`.
        max_duration_seconds: longer audio is refused, counted while decoding.
        max_file_bytes: a larger file is refused.
    """

    input_path: Path
    input_name: str
    staging: Path
    output_dir: Path
    options: SeparationOptions = field(default_factory=SeparationOptions)
    project_name: str | None = None
    max_duration_seconds: float | None = None
    max_file_bytes: int | None = None


@dataclass(frozen=True)
class SeparationProgress:
    """How far a separation is.

    Attributes:
        fraction: 0 to 1 over everything, never falling.
        stage: what it is busy with.
        duration_seconds: of the song, once the first pass is over.
        computing: whether the first forward pass has begun.
    """

    fraction: float
    stage: SeparationStage
    duration_seconds: float | None = None
    computing: bool = False


@dataclass(frozen=True)
class StemFile:
    """One stem as it was written.

    Attributes:
        name: of the stem.
        path: relative to the staging folder and, later, to the output folder.
        format: `wav`, `flac`, …
        sample_rate: Hz.
        channels: channels.
        duration_seconds: seconds.
        bytes: size of the file.
        sha256: hash of the file, hexadecimal.
        peak: largest absolute sample, after the gain.
    """

    name: str
    path: str
    format: str
    sample_rate: int
    channels: int
    duration_seconds: float
    bytes: int
    sha256: str
    peak: float


@dataclass(frozen=True)
class SeparationResult:
    """What a separation wrote.

    Attributes:
        files: paths relative to the staging folder; the manifest stands last.
        stems: in the order of the model's sources, or as asked for.
        duration_seconds: of the song.
        compute_seconds: that the forward passes took.
        forward_passes: their number.
        residual_db: energy of mix minus the sum of the stems against the mix, dB, before rounding to the file's bits
            and lossy coding; None when they need not add up.
        gain: applied to all stems.
        source_sha256: hash of the song's bytes, hexadecimal; None where nobody took it.
        model_sha256: digest of the model's weights and its bag, likewise.
    """

    files: tuple[str, ...]
    stems: tuple[StemFile, ...]
    duration_seconds: float
    compute_seconds: float
    forward_passes: int
    residual_db: float | None
    gain: float
    source_sha256: str | None = None
    model_sha256: str | None = None
