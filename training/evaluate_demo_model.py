"""Prints what the `demo` model achieves on songs it was not trained on. See README.md beside this file."""

import argparse
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from demucs.apply import Model, apply_model
from demucs.hf import load_safetensors_model
from songs import held_out

from demucs_server_worker.demo.sdr import sdr
from demucs_server_worker.demo.song import STEMS

HELD_OUT_SEEDS = range(900_000, 900_020)
"""Songs for the published figures; training never sees seeds from 100,000 on."""

SONG_SECONDS = 10.0

PACKAGE_MODEL = Path(__file__).parents[1] / "src" / "demucs_server_worker" / "separation" / "demo_model"


@dataclass(frozen=True)
class Scores:
    """Figures over some songs.

    Attributes:
        separated: SDR of each song's stems, decibels, ``(songs, stems)``.
        mixed: SDR of the mix itself as the estimate of each stem, same shape.
        cost: seconds of compute a second of audio.
    """

    separated: np.ndarray
    mixed: np.ndarray
    cost: float

    def line(self) -> str:
        """Return the medians on one line."""
        medians = np.nanmedian(self.separated, axis=0)
        return "  ".join(f"{name} {value:.2f}" for name, value in zip(STEMS, medians, strict=True))


def separate(model: Model, mix: torch.Tensor) -> torch.Tensor:
    """Return the stems ``(stems, 2, samples)`` of a mix ``(2, samples)``, as ``demucs.api.Separator`` does it."""
    mono = mix.mean(dim=0)
    mean, std = mono.mean(), mono.std() + 1e-8
    estimate = apply_model(model, ((mix - mean) / std)[None], shifts=0, split=True, overlap=0.25)
    return estimate[0] * std + mean


def score_songs(model: Model, seeds: Iterable[int], seconds: float = SONG_SECONDS) -> Scores:
    """Return the figures of a model over synthesised songs."""
    separated, mixed = [], []
    spent = heard = 0.0
    for seed in seeds:
        mix, stems = held_out(seed, seconds)
        began = time.perf_counter()
        with torch.no_grad():
            estimate = separate(model, mix)
        spent += time.perf_counter() - began
        heard += seconds
        separated.append([sdr(truth.numpy(), guess.numpy()) for truth, guess in zip(stems, estimate, strict=True)])
        mixed.append([sdr(truth.numpy(), mix.numpy()) for truth in stems])
    return Scores(np.array(separated), np.array(mixed), spent / heard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PACKAGE_MODEL, help="folder with demo.yaml")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(arguments.threads)
    (sig,) = yaml.safe_load((arguments.model / "demo.yaml").read_text())["models"]
    path = arguments.model / f"{sig}.safetensors"
    model = load_safetensors_model(path).eval()
    scores = score_songs(model, HELD_OUT_SEEDS)
    parameters = sum(value.numel() for value in model.parameters())
    print(f"model {sig}: {parameters} parameters, {path.stat().st_size / 1e6:.2f} MB, "
          f"{scores.cost:.3f} s of compute a second of audio with {arguments.threads} thread(s)")  # fmt: skip
    print(f"{len(HELD_OUT_SEEDS)} held-out songs of {SONG_SECONDS:.0f} s, SDR in dB")
    print(f"{'stem':8} {'median':>7} {'lowest':>7} {'mix':>7} {'gain':>7}")
    for index, name in enumerate(STEMS):
        own, mix = scores.separated[:, index], scores.mixed[:, index]
        gain = float(np.median(own - mix))
        print(f"{name:8} {np.median(own):7.2f} {own.min():7.2f} {np.median(mix):7.2f} {gain:7.2f}")


if __name__ == "__main__":
    main()
