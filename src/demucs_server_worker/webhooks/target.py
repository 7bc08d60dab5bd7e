"""Where a webhook goes: a URL in one normal form, so that two ways to write a host are never two hosts. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import idna

from demucs_server_worker.errors import InvalidOption

LONGEST_URL = 2_048
DEFAULT_PORTS = {"http": 80, "https": 443}

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What a path and a query may hold, percent signs among it: RFC 3986, section 3.3 and 3.4.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")


@dataclass(frozen=True)
class Target:
    """A URL that a webhook can go to.

    Attributes:
        scheme: `http` or `https`.
        host: a name in lower case, in its ASCII form and without a dot at its end; or an address, without brackets.
        port: 1 to 65535.
        path: path and query; begins with a slash.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """Host and port as in a URL, the default port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def url(self) -> str:
        """The URL in its normal form."""
        return self.origin + self.path


def parse_target(url: str) -> Target:
    """The target that `url` names.

    Raises:
        InvalidOption: it is no http or https URL, or it holds what no webhook needs: a user, a fragment, blanks.
    """
    try:
        return _parsed(url)
    except ValueError as error:
        raise InvalidOption(option="webhook", value=_shown(url), allowed=_shown(str(error))) from None


def _parsed(url: str) -> Target:
    # urlsplit drops line ends and tabs silently, and other readers of URLs take a backslash for a slash.
    if len(url) > LONGEST_URL or any(char <= " " or char in "\\\x7f" for char in url):
        raise ValueError(f"a URL of at most {LONGEST_URL} characters, without blanks and backslashes, is needed")
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.netloc:
        raise ValueError("a URL that begins with http:// or https:// is needed")
    if "@" in parts.netloc:
        raise ValueError("a URL must not hold a user or a password; the signature says who sends")
    if "#" in url:
        raise ValueError("a URL with a fragment (#) names a place in a page, not a receiver")
    path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    if not _PATH.fullmatch(path):
        raise ValueError("path and query must be in ASCII, with everything else percent-encoded")
    host, port = split_port(parts.netloc)
    return Target(scheme=parts.scheme, host=normal_host(host), port=port or DEFAULT_PORTS[parts.scheme], path=path)


def split_port(netloc: str) -> tuple[str, int | None]:
    """Host and port of `host`, `host:port`, `[address]` or `[address]:port`.

    Raises:
        ValueError: what stands after the colon is no port.
    """
    host, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        return netloc, None
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65_535):
        raise ValueError(f"{port} is no port")
    return host, int(port)


def normal_host(text: str) -> str:
    """The one form of a host's name or address; an IPv6 address is given in brackets, and comes without them.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("[") and text.endswith("]"):
        return _normal_address(ipaddress.IPv6Address(text[1:-1]))
    try:
        return _normal_address(ipaddress.IPv4Address(text))
    except ipaddress.AddressValueError:
        return _normal_name(text)


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `host` is, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _normal_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if getattr(address, "scope_id", None):
        raise ValueError("an address with a zone (%) is not possible")
    # An IPv4 address in IPv6 clothes is the same machine.
    return str(getattr(address, "ipv4_mapped", None) or address)


def _normal_name(text: str) -> str:
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            name = ""
    name = name.lower()
    labels = name.split(".")
    # A last label of digits is an IPv4 address in one of its odd spellings (127.1, 0x7f.1, 2130706433).
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or re.match(r"[0-9]", labels[-1]):
        raise ValueError("its host is no name and no address")
    return name


def _shown(text: str) -> str:
    """`text` for a message that can be stored and sent."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 200 else text[:199] + "…"
