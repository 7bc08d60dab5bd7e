"""One request to a webhook, to an address that was looked at first."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx

from demucs_server_worker.webhooks.rules import Address, Rules, permitted
from demucs_server_worker.webhooks.target import Target, address_of

# For all of it: looking the name up, connecting, and waiting for the status.
TIMEOUT_SECONDS = 10.0
# A name server that does not answer keeps a thread for minutes. These are nobody else's.
_LOOKUPS_AT_ONCE = 8


class NotSent(Exception):
    """No status came back; the message says why, for the log."""


class Sender:
    """Posts bodies to targets that the rules allow. It follows no redirect, keeps no connection, reads no body of an
    answer, and knows no proxy: between the look at an address and the request to it, nobody may choose another."""

    def __init__(self, rules: Rules, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Args: rules: what the administrator allows; timeout_seconds: for one request, look-up and all."""
        self._rules = rules
        self._timeout_seconds = timeout_seconds
        self._lookups = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, "webhook-names")
        self._client: httpx.AsyncClient | None = None

    async def post(self, target: Target, body: bytes, headers: Mapping[str, str]) -> int:
        """Send one request, and give the status of its answer.

        Raises:
            NotSent: the rules do not allow the target, its name leads nowhere, or it does not answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(target, await self._address(target), body, headers)
        except TimeoutError:
            raise NotSent(f"it did not answer within {self._timeout_seconds:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise NotSent(f"{type(error).__name__}: {error}") from None

    async def close(self) -> None:
        """Give up what is under way."""
        self._lookups.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            await self._client.aclose()

    async def _address(self, target: Target) -> Address:
        """An address of the target that a webhook may go to."""
        entry = self._rules.entry_for(target)
        if entry is None:
            raise NotSent("its host is no longer among those that are allowed")
        addresses = [literal] if (literal := address_of(target.host)) else await self._look_up(target)
        allowed = [address for address in addresses if permitted(address, entry)]
        if not allowed:
            raise NotSent(f"{target.host} leads to {addresses[0]}, where no webhook may go")
        return allowed[0]

    async def _look_up(self, target: Target) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._lookups, _addresses, target.host, target.port)
        except OSError as error:
            raise NotSent(f"{target.host} is not found: {error.strerror or error}") from None
        return found

    async def _post(self, target: Target, address: Address, body: bytes, headers: Mapping[str, str]) -> int:
        if self._client is None:
            self._client = _client(self._timeout_seconds)
        host = f"[{address}]" if address.version == 6 else str(address)
        request = self._client.build_request(
            "POST",
            f"{target.scheme}://{host}:{target.port}{target.path}",
            content=body,
            headers={**headers, "Host": target.netloc},
            # The certificate is held against the name, though the request goes to the address.
            extensions={"sni_hostname": target.host},
        )
        answer = await self._client.send(request, stream=True)
        await answer.aclose()
        return answer.status_code


def _client(timeout_seconds: float) -> httpx.AsyncClient:
    # The machine's own authorities beside the public ones: a receiver of the house may have a certificate of the house.
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    # A kept connection would be another name's, where two have the same address.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(
        verify=context, trust_env=False, follow_redirects=False, limits=limits, timeout=timeout_seconds
    )


def _addresses(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(address[0])) for _, _, _, _, address in found]
