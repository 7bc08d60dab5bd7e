"""glibc's allocator, told what to do with large blocks: give them back at once, or keep them for the next one.

Around a converted network large blocks are few and live long, and kept ones add up to 85 MB of holes in a worker of
`htdemucs`; torch asks for thousands a second, which would take it two thirds more time if each went back.
"""

from __future__ import annotations

import ctypes
import os
import sys

# malloc.h of glibc; a musl has no mallopt, and nothing to set.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_GIVEN_BACK_BYTES = 1 << 20
# What glibc's own thresholds grow to by themselves (mallopt(3)), until somebody sets them.
_KEPT_BYTES = 32 << 20


class LargeBlocks:
    """Of this process. Where its user set glibc's threshold (`MALLOC_MMAP_THRESHOLD_`), that stays."""

    _given_back = False

    @classmethod
    def give_back(cls) -> None:
        """From now on, blocks of a megabyte and more go back to the kernel when they are freed."""
        if not cls._given_back and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            cls._given_back = True
            _set(_GIVEN_BACK_BYTES)

    @classmethod
    def keep(cls) -> None:
        """As glibc does it by itself; nothing happens where it was never told otherwise."""
        if cls._given_back:
            cls._given_back = False
            _set(_KEPT_BYTES)


def _set(threshold: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, threshold)
        mallopt(_M_TRIM_THRESHOLD, 2 * threshold)
