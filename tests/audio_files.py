"""Sound files made at run time, in every format that is accepted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray


def tones(samples: int, rate: int, channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """(channels, samples): a few sines a channel, different in each, below a tenth of the rate; peak under 0.8."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    rows = []
    for _ in range(channels):
        freqs = rng.uniform(60, min(3000, rate / 10), 4)
        rows.append(sum(0.19 * np.sin(2 * np.pi * freq * time + rng.uniform(0, 6)) for freq in freqs))
    return np.array(rows, np.float32).reshape(channels, samples)


def write_pcm(path: Path, samples: NDArray[Any], rate: int, subtype: str, kind: str | None = None) -> Path:
    """Write (channels, samples) with soundfile, as `subtype` (PCM_16, …) of `kind` (WAV, FLAC, AIFF, OGG, …)."""
    soundfile.write(path, samples.T, rate, subtype=subtype, format=kind)
    return path


# extension: (FFmpeg muxer, encoder, sample format)
ENCODERS = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "flac": ("flac", "flac", "s16"),
    "aiff": ("aiff", "pcm_s16be", "s16"),
    "mp3": ("mp3", "libmp3lame", "fltp"),
    "m4a": ("ipod", "aac", "fltp"),
    "aac": ("adts", "aac", "fltp"),
    "alac": ("ipod", "alac", "s16p"),
    "opus": ("ogg", "libopus", "flt"),
    "ogg": ("ogg", "vorbis", "fltp"),
    "wma": ("asf", "wmav2", "fltp"),
    "mp4": ("mp4", "aac", "fltp"),
    "mkv": ("matroska", "aac", "fltp"),
    "webm": ("webm", "libopus", "flt"),
}


def write_coded(
    path: Path,
    samples: NDArray[np.float32],
    rate: int,
    kind: str,
    *,
    layout: str | None = None,
    metadata: dict[str, str] | None = None,
    bit_rate: int = 192_000,
) -> Path:
    """Write (channels, samples) with FFmpeg's encoder and muxer for `kind`, a key of `ENCODERS`."""
    muxer, encoder, sample_format = ENCODERS[kind]
    layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[samples.shape[0]]
    with av.open(str(path), "w", format=muxer) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(encoder, rate=rate, layout=layout)
        if encoder not in ("flac", "alac") and not encoder.startswith("pcm"):
            stream.bit_rate = bit_rate
        if encoder == "vorbis":
            stream.codec_context.options = {"strict": "experimental"}
        resampler = av.AudioResampler(sample_format, layout, rate)
        for start in range(0, samples.shape[1], 4096):
            # Interleaved, because PyAV cannot fill a planar frame of eight channels.
            piece = samples[:, start : start + 4096].T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "flt", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for ready in resampler.resample(frame):
                container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return path
