"""What an exception inside a worker means to its task."""

from __future__ import annotations

import errno

import pytest

from demucs_server_worker.errors import NoAudio
from demucs_server_worker.worker.failures import error_info


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (NoAudio(name="a.mp4", detail="only pictures"), "no_audio", False),
        (MemoryError(), "out_of_memory", True),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"), "out_of_memory", True),
        (RuntimeError("MPS backend out of memory"), "out_of_memory", True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory", True),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full", True),
        (OSError(errno.EIO, "Input/output error"), "worker_crashed", True),
        (ValueError("shapes do not match\nmore"), "worker_crashed", True),
    ],
)
def test_errors_and_their_codes(error: Exception, code: str, retryable: bool) -> None:
    info = error_info(error, "/out")
    assert (info.code, info.retryable) == (code, retryable)


def test_an_unknown_error_is_told_with_its_type_and_first_line() -> None:
    message = error_info(ValueError("shapes do not match\nmore"), "/out").message
    assert message == "The worker failed: ValueError: shapes do not match"


def test_a_full_disk_names_the_folder() -> None:
    assert "/out" in error_info(OSError(errno.ENOSPC, "No space left on device"), "/out").message
