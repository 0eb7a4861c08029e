"""From where the page may be used: over TLS or on this machine only, and not by pages of other web sites."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from websockets.http11 import Request

from wakestream.adapters.config.addresses import is_loopback
from wakestream.adapters.net.connection_limits import Proxies
from wakestream.adapters.runtime.recent import Recent


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
            is_ours = _is_address(name) or name == "localhost" or any(_fits(name, allowed) for allowed in names)
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


# Sessions of operators. They exist in memory only and end with the hub: after that another program may listen at its
# port, and receive the session that a page sends.

LASTS: Final = 12 * 3600.0
"""Seconds for which a session is valid."""

MOST: Final = 100
"""Sessions at a time; a further one replaces the oldest."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session: the license id, the mark of the key that was shown (`key_mark`), and its end in UNIX seconds."""

    license: str
    mark: str
    until: float


class Sessions:
    """The sessions of a running hub. `now` gives UNIX seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._open: Recent[bytes, Session] = Recent(MOST)

    def begin(self, license_: str, mark: str) -> tuple[str, Session]:
        """A new session and its token."""
        token = secrets.token_urlsafe(32)
        session = Session(license_, mark, self._now() + LASTS)
        self._open[_hash(token)] = session
        return token, session

    def find(self, token: str) -> Session | None:
        """The valid session of a token. Only hashes are compared, so the time that it takes tells nothing."""
        session = self._open.get(_hash(token))
        return session if session is not None and session.until > self._now() else None

    def end(self, token: str) -> None:
        """End a session."""
        self._open.pop(_hash(token), None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
