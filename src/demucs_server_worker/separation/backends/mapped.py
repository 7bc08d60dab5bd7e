"""Files that a library mapped into memory, and reads no more."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_MADV_DONTNEED = 4  # linux/mman.h


def let_go_of(file: Path) -> None:
    """Tell the kernel that this process does not need the pages of `file` for now. On Linux; elsewhere nothing happens.

    What is read after all comes from the file again: for memory that is mapped from a file and not written to,
    MADV_DONTNEED changes no content (madvise(2)).
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    name = os.path.realpath(file)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            where, rights, _, _, _, *path = line.rstrip("\n").split(maxsplit=5)
            if path == [name] and "w" not in rights:
                start, end = (int(address, 16) for address in where.split("-"))
                libc.madvise(start, end - start, _MADV_DONTNEED)
