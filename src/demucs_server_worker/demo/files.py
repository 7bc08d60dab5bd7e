"""Songs that know the truth as files: written for a separation to read, and compared with the stems it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from demucs_server_worker.demo.sdr import sdr
from demucs_server_worker.demo.song import STEMS, synthesise

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Scores:
    """How well a song was separated, decibels of SDR a stem.

    Attributes:
        stems: of each separated stem.
        mix: of the unseparated mix, taken as the estimate of each stem.
    """

    stems: dict[str, float]
    mix: dict[str, float]


def write_song(folder: Path, name: str, seed: int, seconds: float) -> tuple[Path, Path]:
    """Synthesise a song and write its mix and its true stems.

    Args:
        folder: gets `NAME.wav`, the mix in 16 bits as songs come, and `truth/NAME/STEM.wav` in floating point.
        name: of the song.
        seed, seconds: as for `synthesise`.

    Returns:
        The path of the mix, and the folder of the truth.
    """
    song = synthesise(seed, seconds)
    mix, truth = folder / f"{name}.wav", folder / "truth" / name
    truth.mkdir(parents=True, exist_ok=True)
    soundfile.write(mix, song.mix.T, song.sample_rate, subtype="PCM_16")
    for stem, samples in song.stems.items():
        soundfile.write(truth / f"{stem}.wav", samples.T, song.sample_rate, subtype="FLOAT")
    return mix, truth


def score_song(truth: Path, stems: Mapping[str, Path]) -> Scores:
    """Compare stems with the truth.

    Args:
        truth: the folder that `write_song` gave.
        stems: the separated files by name. The manifest beside them says by what gain they were scaled, which is
            taken back.

    Returns:
        The SDR of the stems that have both a file and a truth.
    """
    true = {stem: _read(truth / f"{stem}.wav") for stem in STEMS}
    mix = np.sum([true[stem] for stem in STEMS], axis=0)
    common = [stem for stem in STEMS if stem in stems]
    return Scores(
        stems={stem: sdr(true[stem], _read(stems[stem]) / _gain(stems[stem].parent)) for stem in common},
        mix={stem: sdr(true[stem], mix) for stem in common},
    )


def _read(path: Path) -> NDArray[np.float64]:
    samples, _ = soundfile.read(path, always_2d=True, dtype="float64")
    return np.asarray(samples)  # (samples, channels)


def _gain(folder: Path) -> float:
    return float(json.loads((folder / MANIFEST).read_bytes())["gain"])
