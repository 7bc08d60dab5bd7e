"""Large blocks go back to the kernel, or stay: read from the process's own memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Twelve blocks of 4 MB, less than the heap may keep at its end, are asked for and freed.
SCENE = """
import ctypes, sys
from demucs_server_worker.separation.backends.allocator import LargeBlocks
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]

def resident_mb():
    return next(int(line.split()[1]) // 1000 for line in open("/proc/self/status") if line.startswith("VmRSS"))

def after():
    blocks = [libc.malloc(4 << 20) for _ in range(12)]
    for block in blocks:
        ctypes.memset(block, 1, 4 << 20)
    before = resident_mb()
    for block in blocks:
        libc.free(block)
    return before - resident_mb()

for step in sys.argv[1:]:
    getattr(LargeBlocks, step)()
print(after())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
@pytest.mark.parametrize(
    ("steps", "own", "goes_back"),
    [
        (("give_back",), {}, True),
        (("give_back", "keep"), {}, False),
        (("give_back",), {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}, False),
    ],
)
def test_where_large_blocks_go(steps: tuple[str, ...], own: dict[str, str], goes_back: bool) -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCENE, *steps], capture_output=True, text=True, check=True, env={**os.environ, **own}
    )
    assert (int(said.stdout) > 40) == goes_back
