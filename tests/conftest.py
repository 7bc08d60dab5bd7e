"""What all tests share."""

from __future__ import annotations

import os

# Tests run beside worker processes and, on a small machine, beside each other: one compute thread each is the fastest.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
