"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import structlog

# Tests run beside worker processes and, on a small machine, beside each other: one compute thread each is the fastest.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

# Converted models outlive a run of the tests, since half a minute goes into each, and stay out of the user's own cache.
CONVERSIONS = Path(__file__).parents[1] / ".pytest_cache" / "conversions"
os.environ.setdefault("DEMUCS_WORKER_CACHE_DIR", str(CONVERSIONS))

# structlog's own choice draws the variables of every frame: with a model among them, for half a minute.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

# A shell's background job ignores Ctrl-C, and would hand that down to every command which a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
