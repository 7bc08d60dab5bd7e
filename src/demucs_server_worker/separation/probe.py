"""`python -m demucs_server_worker.separation.probe`: what this installation can compute, decode and encode with.

For `doctor`, which does not load torch itself and outlives an import that crashes or hangs. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

# What each format of the stems is written with, and what songs are mostly coded with.
ENCODERS = {"mp3": "libmp3lame", "m4a": "aac", "opus": "libopus"}
DECODERS = {"MP3": "mp3float", "AAC": "aac", "FLAC": "flac", "Vorbis": "vorbis", "Opus": "opus", "ALAC": "alac",
            "WMA": "wmav2", "WAV": "pcm_s16le"}  # fmt: skip


def probe(device: str) -> dict[str, Any]:
    """Load everything that a worker loads.

    Args:
        device: the setting.

    Returns:
        `device`: where a worker would compute; `device_problem`: or why it cannot; `gpus`: names; `cuda_build`:
        whether torch could use CUDA; `threads`: of torch; `openvino`: its version; `openvino_problem`: or why there is
        none; `bf16`: whether `auto` may compute in it; `missing_decoders`, `missing_encoders`: names of formats.
    """
    return {**_torch(device), **_openvino(), **_codecs()}


def _torch(device: str) -> dict[str, Any]:
    import demucs.htdemucs  # noqa: F401  # what a worker needs of it
    import torch

    from demucs_server_worker.errors import InvalidOption
    from demucs_server_worker.separation.device import multiplies_bf16, resolve_device

    found, problem, bf16 = None, None, False
    try:
        found = str(torch.zeros(1, device=resolve_device(device)).device)
        bf16 = multiplies_bf16(torch.device(found))
    except (InvalidOption, RuntimeError) as error:
        problem = str(error).strip().partition("\n")[0]
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "device": found,
        "device_problem": problem,
        "gpus": [torch.cuda.get_device_name(number) for number in range(gpus)],
        "cuda_build": torch.version.cuda is not None,
        "threads": torch.get_num_threads(),
        "bf16": bf16,
    }


def _openvino() -> dict[str, Any]:
    from demucs_server_worker.separation.backends.openvino_backend import is_installed, load_openvino

    if not is_installed():
        return {"openvino": None, "openvino_problem": "it is not installed"}
    try:
        return {"openvino": load_openvino().__version__.partition("-")[0], "openvino_problem": None}
    except (ImportError, OSError) as error:
        return {"openvino": None, "openvino_problem": f"it does not load: {str(error).partition(chr(10))[0]}"}


def _codecs() -> dict[str, Any]:
    import av
    import soundfile

    def missing(wanted: dict[str, str]) -> list[str]:
        return sorted(name for name, codec in wanted.items() if codec not in av.codecs_available)

    written = soundfile.available_formats()
    by_soundfile = [name for name, kind in (("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG")) if kind not in written]
    return {"missing_decoders": missing(DECODERS), "missing_encoders": [*missing(ENCODERS), *by_soundfile]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe(sys.argv[1])) + "\n")
