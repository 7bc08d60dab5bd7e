"""Which server a client speaks to, with which key, and how patiently. Pure, but for the environment at the start."""

from __future__ import annotations

import ipaddress
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from demucs_server_worker import __version__
from demucs_server_worker.errors import InvalidSetting

URL_VARIABLE = "DEMUCS_WORKER_URL"
API_KEY_VARIABLE = "DEMUCS_WORKER_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
# A server that names a longer time is asked again before, so that one whose queue empties early is not left idle.
_LONGEST_RETRY_AFTER_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a client goes on when it gets no answer.

    Attributes:
        tries: how often a request is sent that does not get through.
        busy_seconds: how long a request is repeated that the server has no room for (503 with `Retry-After`).
        away_seconds: how long `wait`, `events` and downloads outlast a server that is gone, as while it is restarted.
    """

    tries: int = 4
    busy_seconds: float = 60.0
    away_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server and how to speak to it.

    Attributes:
        url: its address, without a slash at the end.
        api_key: for every request; None for none.
        patience: see there.
        clock: monotonic seconds.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    patience: Patience = Patience()
    clock: Callable[[], float] = time.monotonic

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it is reached over the loopback interface, where no proxy belongs in between."""
        host = (urlsplit(self.url).hostname or "").rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        key = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        return {"User-Agent": f"demucs-server-worker/{__version__}", **key}


def find_server(
    url: str | None = None, api_key: str | None = None, patience: Patience | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Server:  # fmt: skip
    """The server that the arguments name, else the environment, else the one on this machine.

    Raises:
        InvalidSetting: the address or the key cannot be one.
    """
    address = (url or environment.get(URL_VARIABLE) or DEFAULT_URL).strip()
    address = (address if "://" in address else f"http://{address}").rstrip("/")
    key = (api_key or environment.get(API_KEY_VARIABLE) or "").strip() or None
    _check_address(address)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidSetting(setting=API_KEY_VARIABLE, value="…", allowed="a key is printable ASCII")
    return Server(url=address, api_key=key, patience=patience or Patience())


def _check_address(address: str) -> None:
    allowed = "an address such as http://127.0.0.1:8000 is needed"
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits or not address.isprintable() or " " in address:
        raise InvalidSetting(setting=URL_VARIABLE, value=address, allowed=allowed)
    if parts.username is not None or parts.query or parts.fragment:
        # Such a thing would end in logs and messages.
        raise InvalidSetting(setting=URL_VARIABLE, value="…", allowed=f"{allowed}, with no password, ? or # in it")


def pause_before(attempt: int) -> float:
    """Seconds before an attempt that follows `attempt` vain ones: doubling, and never all clients at once."""
    longest: float = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)  # noqa: S311 - it spreads clients, it hides nothing


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a busy server asks for, at most half a minute; None where it asks for none."""
    value = headers.get("retry-after", "")
    return min(float(value), _LONGEST_RETRY_AFTER_SECONDS) if value.isascii() and value.isdigit() else None
