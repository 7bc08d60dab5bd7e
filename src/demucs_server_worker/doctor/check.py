"""One thing that was looked at, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GIGABYTE = 10**9


class Trouble(StrEnum):
    """What people come with."""

    STARTS = "a worker does not start"
    CRASHES = "a worker crashes"
    SLOW = "it is slow"


class Verdict(StrEnum):
    """How it looks."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One line of the doctor.

    Attributes:
        trouble: where it belongs.
        name: what was looked at, in a word or two.
        verdict: how it looks.
        found: what was found, in a sentence.
        mend: what to do about it; empty when it is in order.
    """

    trouble: Trouble
    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def fine(trouble: Trouble, name: str, found: str) -> Check:
    """It is in order."""
    return Check(trouble, name, Verdict.OK, found)


def warned(trouble: Trouble, name: str, found: str, mend: str) -> Check:
    """It works, and is worth a thought."""
    return Check(trouble, name, Verdict.WARNING, found, mend)


def failed(trouble: Trouble, name: str, found: str, mend: str) -> Check:
    """It does not work."""
    return Check(trouble, name, Verdict.FAILED, found, mend)


def gigabytes(size_bytes: float) -> str:
    """`1.5 GB`."""
    return f"{size_bytes / GIGABYTE:.1f} GB"
