"""What an exception inside a worker means to the task. Pure, and without torch: its errors are known by their names."""

from __future__ import annotations

import errno

from demucs_server_worker.errors import DemucsWorkerError, DiskFull, ErrorInfo, OutOfMemory, WorkerFailure

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
# torch names no class for a failed allocation on the CPU, and MPS none either: they are RuntimeErrors with these words.
_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")


def error_info(error: BaseException, output_dir: str) -> ErrorInfo:
    """The error of the contract that `error` is.

    Args:
        error: what the separation raised.
        output_dir: where the stems were to be written, for a message about the disk.
    """
    if isinstance(error, DemucsWorkerError):
        return error.info
    if _is_memory(error):
        return OutOfMemory(detail=describe(error)).info
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return DiskFull(path=output_dir).info
    return WorkerFailure(detail=describe(error)).info


def describe(error: BaseException) -> str:
    """The exception's type and the first line of its text."""
    text = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY_WORDS)
