"""How a receiver knows that a webhook comes from this server and is no old one sent again. Pure.

The scheme is that of Stripe (https://docs.stripe.com/webhooks#verify-manually): HMAC-SHA256 (RFC 2104) over the
time, a dot, and the body as it was sent.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "Demucs-Worker-Signature"
# How old a delivery may be, or how far ahead the sender's clock, for `verify` to take it.
TOLERANCE_SECONDS = 300


def sign(secret: str, body: bytes, now: float) -> str:
    """The value of the header.

    Args:
        secret: shared with the receiver.
        body: as it is sent.
        now: epoch seconds.
    """
    return f"t={int(now)},v1={_mac(secret, int(now), body)}"


def verify(secret: str, header: str, body: bytes, now: float, tolerance_seconds: float = TOLERANCE_SECONDS) -> bool:
    """Whether `header` is that of `body`, and not older than `tolerance_seconds`. For receivers and tests.

    Args:
        secret, body: as for `sign`.
        header: the value of the header; parts that are not known are passed over.
        now: epoch seconds.
        tolerance_seconds: how far `t` may be from now.
    """
    parts = [part.partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in parts if name == "t" and value.isascii() and value.isdigit()]
    if len(times) != 1 or abs(now - int(times[0])) > tolerance_seconds:
        return False
    expected = _mac(secret, int(times[0]), body).encode()
    return any(hmac.compare_digest(expected, value.encode()) for name, value in parts if name == "v1")


def _mac(secret: str, when: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{when}.".encode() + body, hashlib.sha256).hexdigest()
