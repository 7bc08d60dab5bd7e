"""Which hosts webhooks may go to: those that the administrator named. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from demucs_server_worker.errors import InvalidOption, InvalidSetting
from demucs_server_worker.events import EventKind
from demucs_server_worker.settings import Settings
from demucs_server_worker.task import Webhook
from demucs_server_worker.webhooks.target import (
    DEFAULT_PORTS,
    Target,
    address_of,
    normal_host,
    parse_target,
    split_port,
)

HOSTS_VARIABLE = "DEMUCS_WORKER_WEBHOOK_HOSTS"
SECRET_VARIABLE = "DEMUCS_WORKER_WEBHOOK_SECRET"  # noqa: S105 - a name
# Shorter ones can be guessed: NIST SP 800-107, section 5.3.4, wants 112 bits for HMAC.
SHORTEST_SECRET = 16

# The events of a task that can be told; those in between come too often for a request each.
TELLABLE = tuple(
    kind.value
    for kind in (
        EventKind.QUEUED, EventKind.STARTED, EventKind.RETRYING,
        EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED,
    )
)  # fmt: skip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Entry:
    """One allowed host: `studio.example`, `studio.example:8443`, `*.studio.example`, `10.0.0.5`, `[::1]:3000`.

    Attributes:
        host: in its normal form; of a wildcard the part behind `*.`.
        port: the only port; None means 80 for http and 443 for https.
        wildcard: whether it means all names below `host`, and not `host` itself.
    """

    host: str
    port: int | None
    wildcard: bool

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Raises: ValueError: it names no host."""
        wildcard = text.startswith("*.")
        host, port = split_port(text.removeprefix("*."))
        normal = normal_host(host)
        if wildcard and address_of(normal) is not None:
            raise ValueError("an address has no names below it")
        return cls(host=normal, port=port, wildcard=wildcard)

    def includes(self, target: Target) -> bool:
        """Whether a webhook may go to `target`."""
        if target.port != (self.port or DEFAULT_PORTS[target.scheme]):
            return False
        return target.host.endswith("." + self.host) if self.wildcard else target.host == self.host


@dataclass(frozen=True)
class Rules:
    """What the administrator allows. `secret` signs; without one no webhook is taken."""

    entries: tuple[Entry, ...] = ()
    secret: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """The rules that the settings make.

        Raises:
            InvalidSetting: an entry names no host, or hosts are allowed without a secret to sign with.
        """
        secret = settings.webhook_secret
        if secret is not None and len(secret) < SHORTEST_SECRET:
            allowed = f"at least {SHORTEST_SECRET} characters that nobody can guess; `openssl rand -hex 32` makes some"
            raise InvalidSetting(setting=SECRET_VARIABLE, value="…", allowed=allowed)
        if settings.webhook_hosts and secret is None:
            allowed = f"webhooks are signed, so {HOSTS_VARIABLE} needs it; `openssl rand -hex 32` makes one"
            raise InvalidSetting(setting=SECRET_VARIABLE, value="", allowed=allowed)
        return cls(entries=tuple(_entries(settings.webhook_hosts)), secret=secret)

    def entry_for(self, target: Target) -> Entry | None:
        """The entry that allows `target`; None when none does. One that names it exactly wins over a wildcard."""
        fitting = sorted((entry for entry in self.entries if entry.includes(target)), key=lambda entry: entry.wildcard)
        return fitting[0] if fitting else None

    def webhook(self, url: str, events: Iterable[str] | None = None) -> Webhook:
        """The webhook that a submitter asks for.

        Args:
            url: where to.
            events: which events to tell; None or none of them means the final ones.

        Raises:
            InvalidOption: the URL is not valid or its host not allowed, or there is no such event.
        """
        target = parse_target(url)
        if self.entry_for(target) is None:
            raise InvalidOption(option="webhook", value=target.url, allowed=_how_to_allow(target))
        chosen = tuple(dict.fromkeys(events or ()))
        for event in chosen:
            if event not in TELLABLE:
                raise InvalidOption(option="webhook.events", value=event, allowed="one of " + ", ".join(TELLABLE))
        return Webhook(url=target.url, events=chosen) if chosen else Webhook(url=target.url)


def webhook_of(wish: str | Mapping[str, Any] | None, rules: Rules) -> Webhook | None:
    """The webhook of a submission.

    Args:
        wish: a URL, or `{"url": …, "events": […]}`; None or an empty text for none.
        rules: what the administrator allows.

    Raises:
        InvalidOption: it is neither, or not allowed.
    """
    if wish is None or wish == "":
        return None
    if isinstance(wish, str):
        return rules.webhook(wish)
    return rules.webhook(wish["url"], wish.get("events"))


def permitted(address: Address, entry: Entry) -> bool:
    """Whether a webhook may go to the address that an allowed name leads to.

    The administrator allowed a name; whoever manages that name chooses the address. Addresses at which a machine talks
    to itself or to its cloud's management are only for entries that say so: `localhost`, or the address.
    """
    address = getattr(address, "ipv4_mapped", None) or address
    if address_of(entry.host) is not None:
        return str(address) == entry.host
    if entry.host == "localhost" or entry.host.endswith(".localhost"):
        return address.is_loopback
    if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        return False
    # In a private network the administrator knows each receiver by its name.
    return address.is_global or not entry.wildcard


def _entries(texts: Iterable[str]) -> Iterable[Entry]:
    for text in texts:
        try:
            yield Entry.parse(text)
        except ValueError as error:
            allowed = f"{error}; a host, host:port, *.domain or an address is needed"
            raise InvalidSetting(setting=HOSTS_VARIABLE, value=text, allowed=allowed) from None


def _how_to_allow(target: Target) -> str:
    return f"this server tells nobody there; its administrator can add {target.netloc} to {HOSTS_VARIABLE}"
