"""When a delivery that failed is tried again. Pure."""

from __future__ import annotations

from enum import StrEnum

FIRST_DELAY_SECONDS = 5.0
LONGEST_DELAY_SECONDS = 3_600.0
# Part of a delay by which it is spread, so that what failed together does not come back together.
JITTER = 0.2
# A receiver that is down over a night's maintenance still hears everything.
GIVE_UP_AFTER_SECONDS = 86_400.0


class Answer(StrEnum):
    """What a receiver's status means."""

    TAKEN = "taken"
    FAILED = "failed"
    GONE = "gone"


def answer_of(status: int) -> Answer:
    """2xx is success; 410 Gone asks for no more; anything else, redirects among it, is a failure."""
    if 200 <= status < 300:
        return Answer.TAKEN
    return Answer.GONE if status == 410 else Answer.FAILED


def next_try(tries: int, first_try_at: float, now: float, chance: float) -> float | None:
    """When to try again.

    Args:
        tries: how often it was tried, at least once.
        first_try_at: epoch seconds of the first try.
        now: epoch seconds.
        chance: 0 to 1, drawn by the caller.

    Returns:
        Epoch seconds; None to give up.
    """
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(tries - 1, 32), LONGEST_DELAY_SECONDS)
    due_at = now + delay * (1 + JITTER * (2 * chance - 1))
    return due_at if due_at - first_try_at <= GIVE_UP_AFTER_SECONDS else None
