"""NVIDIA GPUs, by NVIDIA's management library: their names, memory and load, without loading torch."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CUDA_OF_TORCH = re.compile(r"^cuda\b[^=]*=\s*['\"]", re.MULTILINE)


@dataclass(frozen=True)
class Gpu:
    """One GPU: memory in bytes, load in percent, None where the driver does not tell."""

    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    utilization_percent: float | None


class Gpus:
    """The GPUs that a process started here can compute on. Without a library or a driver there are none."""

    def __init__(self, library: Any = None, visible: str | None = None) -> None:
        """Args: library: `pynvml`, by default imported if it is installed; visible: as CUDA_VISIBLE_DEVICES, by default
        what that says."""
        self._visible = visible if visible is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
        self._library = library
        self._handles: list[Any] = []
        try:
            self._library = library or importlib.import_module("pynvml")
            self._library.nvmlInit()
            handles = [self._library.nvmlDeviceGetHandleByIndex(i) for i in range(self._library.nvmlDeviceGetCount())]
            self._handles = [handles[i] for i in self._shown(handles)]
        except Exception:
            # Not installed, no driver, one of another version, a GPU that fell off the bus: all mean the same here.
            self._handles = []

    def __len__(self) -> int:
        return len(self._handles)

    def read(self) -> tuple[Gpu, ...]:
        """What each does at the moment."""
        return tuple(self._read(handle) for handle in self._handles)

    def _read(self, handle: Any) -> Gpu:
        memory = self._ask("MemoryInfo", handle)
        rates = self._ask("UtilizationRates", handle)
        return Gpu(
            name=_text(self._ask("Name", handle)) or "GPU",
            memory_total_bytes=int(memory.total) if memory else None,
            memory_used_bytes=int(memory.used) if memory else None,
            utilization_percent=float(rates.gpu) if rates else None,
        )

    def _shown(self, handles: list[Any]) -> list[int]:
        """The places of the GPUs that CUDA will show, by its rule: the list ends at the first entry that is none."""
        if self._visible is None:
            return list(range(len(handles)))
        ids = [_text(self._ask("UUID", handle)) for handle in handles]
        shown: list[int] = []
        for entry in filter(None, (part.strip() for part in self._visible.split(","))):
            place = int(entry) if entry.isdigit() else next((i for i, id in enumerate(ids) if id.startswith(entry)), -1)
            if not 0 <= place < len(handles):
                break
            shown.append(place)
        return shown

    def _ask(self, what: str, handle: Any) -> Any:
        try:
            return getattr(self._library, f"nvmlDeviceGet{what}")(handle)
        except Exception:
            # Not every card and driver tells everything.
            return None


def torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA; read from its files, as importing it takes seconds and memory."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        return _CUDA_OF_TORCH.search(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")) is not None
    except OSError:
        return False


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
