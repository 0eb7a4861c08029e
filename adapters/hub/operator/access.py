"""From where the page may be used: over TLS or on this machine only, and not by pages of other web sites."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass

from websockets.http11 import Request

from wakestream.adapters.config.addresses import is_loopback
from wakestream.adapters.net.rate_limit import Proxies


@dataclass(frozen=True, slots=True)
class Caller:
    """How a request came: the origin of our page at that address, and whether a key is safe on the way."""

    host: str
    origin: str
    secure: bool


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one hub.

    Attributes:
        proxies: The proxies whose forwarded headers count.
        names: The names in the hub's certificate; None without TLS.
    """

    proxies: Proxies
    names: Callable[[], Collection[str] | None]

    def caller(self, peer: str, request: Request) -> Caller | None:
        """How this request came; None if its `Host` is not one of this hub's, as with DNS rebinding."""
        names = self.names()
        if names is None and self.proxies.include(peer) and (scheme := _last(request, "X-Forwarded-Proto")):
            host = _last(request, "X-Forwarded-Host") or _last(request, "Host")
            return Caller(host, f"{scheme}://{host}", scheme == "https")
        host = _last(request, "Host")
        name = _name(host)
        if names is not None:
            is_ours = _is_address(name) or name == "localhost" or any(_fits(name, one) for one in names)
            return Caller(host, f"https://{host}", secure=True) if is_ours else None
        if is_loopback(peer):
            return Caller(host, f"http://{host}", secure=True) if is_loopback(name) else None
        return Caller(host, f"http://{host}", secure=False)


def is_same_origin(caller: Caller, request: Request) -> bool:
    """Whether our page sent this request; browsers always name the origin of a WebSocket."""
    return [origin.lower() for origin in request.headers.get_all("Origin")] == [caller.origin]


def _last(request: Request, name: str) -> str:
    """The header's last value, in lower case: any client can write those before it."""
    return ",".join(request.headers.get_all(name)).rpartition(",")[2].strip().lower()


def _name(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    """Whether this is an IP address, which no other site can have as its name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _fits(name: str, certified: str) -> bool:
    certified = certified.lower()
    if certified.startswith("*."):
        return name.partition(".")[2] == certified[2:]
    return name == certified
