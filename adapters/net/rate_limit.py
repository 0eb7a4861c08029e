"""How often an address may do something. Bounded: of too many addresses, the longest unheard of are forgotten."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from loguru import logger

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST = 10_000
"""Addresses that are remembered at once."""


class Rate:
    """Each address may do `burst` at once, and one more every `every` seconds. `clock` gives seconds."""

    def __init__(
        self, burst: int, every: float, *, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._every, self._most, self._clock = burst, every, most, clock
        # When an address will have nothing on its account, had it done nothing more (the "theoretical arrival time").
        self._clean: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may do it again; 0 for now."""
        ahead = self._clean.get(neighbourhood(address), 0.0) - self._clock()
        return max(0.0, ahead - (self._burst - 1) * self._every)

    def count(self, address: str) -> None:
        """The address has done it once more."""
        name, now = neighbourhood(address), self._clock()
        self._clean[name] = max(now, self._clean.get(name, now)) + self._every
        self._clean.move_to_end(name)
        while len(self._clean) > self._most:
            self._clean.popitem(last=False)

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._clean)


class Proxies:
    """The proxies in front that were `named`. They alone are believed about whom they speak for (X-Forwarded-For)."""

    def __init__(self, named: Collection[Network] = ()) -> None:
        self._named = named
        self._told = False

    def include(self, peer: str) -> bool:
        """Whether a proxy in front has this address."""
        found = _address(peer)
        return found is not None and any(found in network for network in self._named)

    def caller(self, peer: str, forwarded: str | None) -> str:
        """Whose doing it is: the address that the proxy saw, or else the peer itself.

        Of several in `forwarded` it is the last: those before it may have been written by anybody.
        """
        last = (forwarded or "").rpartition(",")[2].strip()
        if _address(last) is None:
            return peer
        if self.include(peer):
            return last
        self._tell(peer)
        return peer

    def _tell(self, peer: str) -> None:
        """A proxy on this machine is likely to be meant, and was believed without being named in former versions."""
        found = _address(peer)
        if found is None or not found.is_loopback or self._told:
            return
        self._told = True
        logger.warning(
            "a proxy at {} says whom it speaks for, and was not named, so it is not believed: "
            "add --behind-proxy {} if it is yours", peer, peer,
        )  # fmt: skip


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def neighbourhood(address: str) -> str:
    """What one person can be expected to have: an IPv4 address, or 64 bits of an IPv6 network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
