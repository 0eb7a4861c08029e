"""Limits the connections of a server, and decides which of them make room for others.

A caller is a stranger until it is authorized. Strangers have few places and lose them to later callers; authorized
callers have their own places, which strangers cannot take.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Self

from loguru import logger

from wakestream.adapters.runtime.recent import Recent

# Rate limits by address. The number of remembered addresses is bounded; the least recently used are forgotten.

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


class Proxies:
    """The reverse proxies that the user `named`. Only their X-Forwarded-For headers are used."""

    def __init__(self, named: Collection[Network] = ()) -> None:
        self._named = named
        self._has_warned = False

    def include(self, peer: str) -> bool:
        """Whether this is the address of a named proxy."""
        address = _address(peer)
        return address is not None and any(address in network for network in self._named)

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
        address = _address(peer)
        if address is None or not address.is_loopback or self._has_warned:
            return
        self._has_warned = True
        logger.warning(
            "a proxy at {} sent X-Forwarded-For, which is ignored because the proxy was not named; "
            "add --behind-proxy {} if it is yours", peer, peer,
        )  # fmt: skip


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def neighbourhood(address: str) -> str:
    """The addresses that one person usually has: an IPv4 address, or an IPv6 network of 64 bits."""
    parsed = _address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


# Counts what a server refuses, by reason, for metrics and tests. Pure.

Tell = Callable[[str, int], object]


class Refusals(Counter[str]):
    """Refusals by reason. A reason is one of the server's own words, not text of a caller, so there are few of them.

    `tell` is called for each, with the reason and its count.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        super().__init__()
        self._tell = tell

    def count(self, reason: str) -> None:
        """Count a refusal."""
        self[reason] += 1
        if self._tell is not None:
            self._tell(reason, self[reason])


STRANGERS = 500
"""Places of strangers at most; with TLS each may cost 300 kB."""

LEAST = 16
"""Places of strangers at least: in all, and of one address."""

FRESH = 1.0
"""Seconds that a stranger has to authorize itself before it can lose its place to others of its address."""


@dataclass(frozen=True, slots=True)
class Room:
    """Places of authorized callers (`known`), and of strangers."""

    known: int
    strangers: int

    @classmethod
    def of(cls, sockets: int) -> Self:
        """So many in all."""
        strangers = min(STRANGERS, max(LEAST, sockets // 4))
        return cls(max(1, sockets - strangers), strangers)


@dataclass(eq=False, slots=True)
class Place:
    """The place of one connection. `end` ends the connection."""

    address: str
    came: float
    end: Callable[[], None]
    known: bool = False
    gone: bool = False


@dataclass(slots=True)
class ConnectionLimits:
    """The places of one server. Of `per_address` known ones, and of a quarter as many strangers, each may be from one
    neighbourhood (an IPv4 address, or 64 bits of an IPv6 network); those of `proxies` have no such bound until it is
    known for whom they speak.
    """

    room: Room
    per_address: int
    refused: Refusals
    proxies: Proxies = field(default_factory=Proxies)
    fresh: float = FRESH
    clock: Callable[[], float] = time.monotonic
    _strangers: dict[str, dict[Place, None]] = field(default_factory=dict)
    _waiting: int = 0
    _known: Counter[str] = field(default_factory=Counter)
    _inside: int = 0

    @property
    def open(self) -> int:
        """How many connections there are."""
        return self._waiting + self._inside

    @property
    def is_full(self) -> bool:
        """Whether no place is left for another one who is let in."""
        return self._inside >= self.room.known

    def is_crowded(self, address: str) -> bool:
        """Whether those who were let in from this address have all places that it may have."""
        return self._known[neighbourhood(address)] >= self.per_address

    def take(self, peer: str, end: Callable[[], None]) -> Place | None:
        """A place for a connection from `peer`, or None: it is to be closed."""
        name = neighbourhood(peer)
        own = self._strangers.get(name, {})
        if not self.proxies.include(peer) and not self._room_within(own):
            return None
        if self._waiting >= self.room.strangers and not self._room_beside(own):
            return None
        place = Place(name, self.clock(), end)
        self._add(place)
        return place

    def _room_within(self, own: dict[Place, None]) -> bool:
        """Whether the address may have one more stranger. Its oldest one is evicted for it after `fresh` seconds."""
        return len(own) < max(LEAST, self.per_address // 4) or self._evict_stale(next(iter(own)), "crowded_address")

    def _room_beside(self, own: dict[Place, None]) -> bool:
        """Whether all addresses together may have one more stranger: the address with most of them loses its oldest.

        Among addresses with equally many, the oldest of all is evicted after `fresh` seconds.
        """
        most = max(self._strangers.values(), key=len)
        if len(most) > len(own) + 1:
            self._evict(next(iter(most)))
            return True
        return self._evict_stale(self._longest(), "full")

    def _longest(self) -> Place:
        return min((next(iter(of)) for of in self._strangers.values()), key=lambda place: place.came)

    def _evict_stale(self, place: Place, reason: str) -> bool:
        stale = self.clock() - place.came >= self.fresh
        if stale:
            self._evict(place)
        else:
            self.refused.count(reason)
        return stale

    def _evict(self, place: Place) -> None:
        self.refused.count("evicted")
        self.free(place)
        place.end()

    def make_room(self) -> None:
        """Evict the oldest stranger, because the system has no more file descriptors."""
        if self._strangers:
            self._evict(self._longest())

    def let_in(self, place: Place, owner: str = "") -> None:
        """It is no stranger any more, if there is a place for it; else it stays where it is, and is served as well.

        It counts as a place of `owner`, if there is one, since many may have one address.
        """
        name = owner or place.address
        if place.gone or self._known[name] >= self.per_address or (self.is_full if not place.known else not owner):
            return
        self._remove(place)
        place.known, place.address = True, name
        self._add(place)

    def speaks_for(self, place: Place, address: str) -> None:
        """The proxy has said for whom: from now on it counts as that one's."""
        name = neighbourhood(address)
        if place.gone or name == place.address:
            return
        self._remove(place)
        place.address, place.came = name, self.clock()
        if not place.known and not self._room_within(self._strangers.get(name, {})):
            place.gone = True
            place.end()
            return
        self._add(place)

    def free(self, place: Place) -> None:
        """Its connection has ended; told more than once, it counts once."""
        if not place.gone:
            place.gone = True
            self._remove(place)

    def _add(self, place: Place) -> None:
        if place.known:
            self._known[place.address] += 1
            self._inside += 1
        else:
            self._strangers.setdefault(place.address, {})[place] = None
            self._waiting += 1

    def _remove(self, place: Place) -> None:
        if place.known:
            self._inside -= 1
            self._known[place.address] -= 1
            if not self._known[place.address]:
                del self._known[place.address]
        else:
            self._waiting -= 1
            del self._strangers[place.address][place]
            if not self._strangers[place.address]:
                del self._strangers[place.address]
