"""Who can reach the server: programs of this machine alone, or others too, who then need a key."""

from __future__ import annotations

import ipaddress

from demucs_server_worker.errors import InvalidSetting
from demucs_server_worker.settings import Settings


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(settings: Settings) -> None:
    """Refuse to be open to a network without a key.

    Raises:
        InvalidSetting: the host is not loopback and there is no key.
    """
    if not settings.api_keys and not is_loopback(settings.host):
        raise InvalidSetting(
            setting="DEMUCS_WORKER_API_KEYS", value="",
            allowed=f"others can reach {settings.host}, so a key is needed; or listen on 127.0.0.1",
        )  # fmt: skip
