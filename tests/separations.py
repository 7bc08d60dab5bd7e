"""Songs through the engine: a call that gives everything a test looks at, and models that are cheap and predictable."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.decode import open_source
from demucs_server_worker.separation.engine import Engine
from demucs_server_worker.separation.job import SeparationJob, SeparationProgress, SeparationResult
from demucs_server_worker.separation.models import LoadedModel

SOURCES = ("drums", "bass", "other", "vocals")
RATE = 44_100

Samples = NDArray[np.float32]


class Shares(nn.Module):
    """Gives each stem a fixed share of what it is shown, so that the stems sum to the mix when the shares sum to 1.

    Attributes:
        passes: forward passes so far.
        on_pass: called with the number of each pass before it runs.
    """

    def __init__(
        self, shares: Sequence[float] = (0.4, 0.3, 0.2, 0.1), *, segment: float = 1.0, sample_rate: int = RATE
    ) -> None:
        super().__init__()
        self.sources = list(SOURCES)
        self.samplerate = sample_rate
        self.audio_channels = 2
        self.segment = segment
        self.passes = 0
        self.on_pass: Callable[[int], None] = lambda number: None
        self.register_buffer("shares", torch.tensor(list(shares)).view(1, -1, 1, 1))

    def forward(self, mix: Tensor) -> Tensor:
        self.passes += 1
        self.on_pass(self.passes)
        return mix[:, None] * self.shares  # (batch, sources, channels, samples)


def put_on_shelf(monkeypatch: pytest.MonkeyPatch, *members: nn.Module, weights: Any = None) -> None:
    """Make every engine find a bag of `members` whatever model it is asked for."""
    first: Any = members[0]
    rows = weights or [[1.0] * len(first.sources) for _ in members]

    def load(name: str, repo: Path | None, **_: object) -> LoadedModel:
        return LoadedModel(
            name=name,
            sources=tuple(first.sources),
            sample_rate=int(first.samplerate),
            channels=int(first.audio_channels),
            members=tuple(members),
            weights=tuple(tuple(row) for row in rows),
            digest="0" * 64,
        )

    monkeypatch.setattr("demucs_server_worker.separation.shelf.load_model", load)


@dataclass(frozen=True)
class Separated:
    """A finished separation.

    Attributes:
        result: what the engine gave.
        folder: the staging folder.
        progress: everything reported on the way.
    """

    result: SeparationResult
    folder: Path
    progress: list[SeparationProgress]

    @property
    def manifest(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / self.result.files[-1]).read_text("utf-8"))
        return content

    @property
    def paths(self) -> dict[str, Path]:
        return {stem.name: self.folder / stem.path for stem in self.result.stems}

    def read(self) -> dict[str, Samples]:
        """The stems as their files hold them, (2, samples) each."""
        return {name: read(path) for name, path in self.paths.items()}

    def bytes(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in self.paths.items()}


def job(song: Path, folder: Path, **options: Any) -> SeparationJob:
    """A job whose staging folder lies in the output folder `folder`, as the manager arranges it."""
    options = {"model": "demo", **options}
    return SeparationJob(
        input_path=song,
        input_name=song.name,
        staging=folder / ".staging",
        output_dir=folder,
        options=SeparationOptions(**options),
    )


def separate(
    engine: Engine, song: Path, folder: Path, cancelled: Callable[[], bool] = lambda: False, **options: Any
) -> Separated:
    """Separate `song` with the demo model, unless `options` say otherwise."""
    progress: list[SeparationProgress] = []
    work = job(song, folder, **options)
    result = engine.separate(work, on_progress=progress.append, cancelled=cancelled)
    return Separated(result, work.staging, progress)


def read(path: Path) -> Samples:
    """A sound file, (2, samples), decoded as the engine decodes songs."""
    with open_source(path, path.name) as source:
        return np.concatenate(list(source.blocks()), axis=1)


def rate_of(path: Path) -> int:
    """Hz."""
    with open_source(path, path.name) as source:
        return source.info.sample_rate


def ratio_db(signal: NDArray[Any], noise: NDArray[Any]) -> float:
    """Energy of `signal` over that of `noise`, dB."""
    energies = [float(np.square(each, dtype=np.float64).sum()) for each in (signal, noise)]
    return float(10 * np.log10(energies[0] / max(energies[1], 1e-30)))
