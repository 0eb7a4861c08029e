"""Rate limits by address. The number of remembered addresses is bounded; the least recently used are forgotten."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Collection

from loguru import logger

from wakestream.adapters.runtime.recent import Recent

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST = 10_000
"""Addresses that are remembered."""


class Rate:
    """Each address may do `burst` actions at once, and one more every `every` seconds. `clock` gives seconds."""

    def __init__(
        self, burst: int, every: float, *, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._every, self._clock = burst, every, clock
        # The theoretical arrival time of each address: when its budget is full again.
        self._clean: Recent[str, float] = Recent(most)

    def wait(self, address: str) -> float:
        """Seconds until this address may act again; 0 when it may now."""
        ahead = self._clean.get(neighbourhood(address), 0.0) - self._clock()
        return max(0.0, ahead - (self._burst - 1) * self._every)

    def count(self, address: str) -> None:
        """Count one action of this address."""
        name, now = neighbourhood(address), self._clock()
        self._clean[name] = max(now, self._clean.get(name, now)) + self._every

    def __len__(self) -> int:
        """The number of remembered addresses."""
        return len(self._clean)


class Proxies:
    """The reverse proxies that the user `named`. Only their X-Forwarded-For headers are used."""

    def __init__(self, named: Collection[Network] = ()) -> None:
        self._named = named
        self._told = False

    def include(self, peer: str) -> bool:
        """Whether this is the address of a named proxy."""
        found = _address(peer)
        return found is not None and any(found in network for network in self._named)

    def caller(self, peer: str, forwarded: str | None) -> str:
        """The client's address: the one that the proxy reports, or else the peer's.

        Of several in `forwarded` the last one counts, since any client can write the others.
        """
        last = (forwarded or "").rpartition(",")[2].strip()
        if _address(last) is None:
            return peer
        if self.include(peer):
            return last
        self._tell(peer)
        return peer

    def _tell(self, peer: str) -> None:
        """Warn once about a proxy on this machine that was not named."""
        found = _address(peer)
        if found is None or not found.is_loopback or self._told:
            return
        self._told = True
        logger.warning(
            "a proxy at {} sent X-Forwarded-For, which is ignored because the proxy was not named; "
            "add --behind-proxy {} if it is yours", peer, peer,
        )  # fmt: skip


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def neighbourhood(address: str) -> str:
    """The addresses that one person usually has: an IPv4 address, or an IPv6 network of 64 bits."""
    found = _address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address if found is None else str(found)
