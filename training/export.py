"""Writes and reads the model as Demucs publishes its own: a safetensors file and a yaml file that names it."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import save_file


def signature(tensors: dict[str, torch.Tensor]) -> str:
    """Return the model's name: 8 hex digits of the SHA-256 over its tensors' names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:8]


def _encode(value: object) -> object:
    """Encode a fraction as ``demucs.hf`` decodes it."""
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    raise TypeError(f"{type(value).__name__} has no place in the metadata")


def write_model(folder: Path, state: dict[str, torch.Tensor], kwargs: dict[str, object]) -> Path:
    """Write ``<signature>.safetensors`` and ``demo.yaml`` into ``folder``, in place of an older model.

    Args:
        folder: created when it is missing.
        state: the network's tensors; stored with half precision.
        kwargs: arguments of ``demucs.htdemucs.HTDemucs``.

    Returns:
        The path of the safetensors file.
    """
    tensors = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in state.items()}
    sig = signature(tensors)
    metadata = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": json.dumps([]),
        "kwargs": json.dumps(kwargs, default=_encode),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sig}.safetensors"
    save_file(tensors, str(path), metadata)
    path.chmod(0o644)  # safetensors leaves it to its owner alone, and an installed package is everyone's
    (folder / "demo.yaml").write_text(f"models: ['{sig}']\n")
    for old in folder.glob("*.safetensors"):
        if old != path:
            old.unlink()
    return path
