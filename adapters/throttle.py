"""How often an address may do something. Bounded: of too many addresses, the longest unheard of are forgotten."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

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


def caller(peer: str, forwarded: str | None, proxies: Collection[Network] = ()) -> str:
    """Whose doing it is: the address that a proxy saw, on this machine or in `proxies`; nobody else is believed.

    Of several in `forwarded` it is the last: those before it may have been written by anybody.
    """
    last = (forwarded or "").rpartition(",")[2].strip()
    return last if _is_address(last) and _speaks_for_others(peer, proxies) else peer


def _speaks_for_others(peer: str, proxies: Collection[Network]) -> bool:
    if not _is_address(peer):
        return False
    found = ipaddress.ip_address(peer)
    found = getattr(found, "ipv4_mapped", None) or found
    return _is_here(found) or any(found in network for network in proxies)


def _is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


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
