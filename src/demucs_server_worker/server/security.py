"""Who may ask: API keys, sessions of the web page, names of this server, and pages of other sites. Pure."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from demucs_server_worker.exposure import is_loopback

# A page asks for the key again after this time.
SESSION_SECONDS = 12 * 3600
# The oldest session ends when there would be more.
MOST_SESSIONS = 1_000
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Keys:
    """The API keys, as hashes: what was given is not kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._hashes = [_hash(key) for key in keys]

    @property
    def needed(self) -> bool:
        """Whether a key is needed at all."""
        return bool(self._hashes)

    def fits(self, key: str) -> bool:
        """Whether this is one of them, in a time that does not depend on the answer."""
        given = _hash(key)
        return sum([hmac.compare_digest(given, known) for known in self._hashes]) > 0


class Sessions:
    """Pages that have shown a key once. `EventSource`, `<audio>` and a download link cannot send a header: they send
    the cookie that stands for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: clock: monotonic seconds."""
        self._clock = clock
        self._ends: dict[bytes, float] = {}

    def begin(self) -> str:
        """The token of a new session."""
        now = self._clock()
        self._ends = {known: ends for known, ends in self._ends.items() if ends > now}
        if len(self._ends) >= MOST_SESSIONS:
            del self._ends[next(iter(self._ends))]
        token = secrets.token_urlsafe(32)
        self._ends[_hash(token)] = now + SESSION_SECONDS
        return token

    def is_open(self, token: str) -> bool:
        """Whether the session runs."""
        return self._ends.get(_hash(token), 0.0) > self._clock()

    def end(self, token: str) -> None:
        """End it, if it runs."""
        self._ends.pop(_hash(token), None)


def shown_key(headers: Mapping[str, str]) -> str | None:
    """The API key that a request shows in a header, if any."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("x-api-key") or None


class Names:
    """The names by which this server may be called. A page of another site whose name was made to point here (DNS
    rebinding) calls it by that site's name."""

    def __init__(self, host: str, allowed: Iterable[str]) -> None:
        """Args: host: the address to listen on; allowed: further names, `*` for all."""
        self._names = {*LOOPBACK_NAMES, host.lower(), *(name.lower() for name in allowed)}
        # An address of this machine is no name that a stranger can point elsewhere.
        self._any_address = not is_loopback(host)

    def include(self, host_header: str) -> bool:
        """Whether a `Host` header names this server. Its port does not matter: a proxy may have another."""
        name = host_of(host_header)
        if name in self._names or "*" in self._names:
            return True
        return self._any_address and _is_address(name)


def host_of(netloc: str) -> str:
    """The host in `host:port`, in lower case; empty where it makes no sense."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def comes_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site sent the request. Programs that are no browser send none of these headers."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    scheme = origin.partition(":")[0].lower()
    sender = _place(origin)
    return sender is None or sender != _place(f"{scheme}://{headers.get('host', '')}")


def _place(url: str) -> tuple[str, int | None] | None:
    """Host and port of a URL; None where there are none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname.lower(), parts.port or _PORTS.get(parts.scheme)) if parts.hostname else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
