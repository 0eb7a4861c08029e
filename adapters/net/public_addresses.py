"""Connections to addresses of the internet only: not to this machine, nor to its local network.

Every address is checked where the connection is made, so a name that resolves to another address the next time, and a
host that is written in an unusual way, are checked too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

_NEVER: Final = tuple(
    map(
        ipaddress.IPv6Network,
        ("64:ff9b::/32", "2002::/16", "2001::/32", "::/96", "::ffff:0:0:0/96", "fec0::/10"),
    )
)
"""IPv6 addresses that contain another address, to which the packets go, and the old ones of a local network."""

_METADATA: Final = ipaddress.IPv4Network("192.0.0.0/24")
"""Of protocols and clouds. Early versions of Python 3.11 and 3.12 take most of it as addresses of the internet."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotPublic(Exception):
    """The host is not on the internet."""


def is_public(address: IpAddress) -> bool:
    """Whether an address is one of the internet: not of this machine, of the local network, or reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in _NEVER):
            return False
    elif address in _METADATA:
        return False
    return address.is_global and not address.is_multicast


def check_public(host: str, address: str) -> None:
    """Raise `NotPublic` with the host's name unless its address is one of the internet."""
    if not is_public(ipaddress.ip_address(address.partition("%")[0])):
        raise NotPublic(f"{host} is an address of this machine or of a local network")


def public_connector() -> aiohttp.TCPConnector:
    """Return a connector for `aiohttp.ClientSession` that raises `NotPublic` for every other address."""
    return aiohttp.TCPConnector(resolver=PublicResolver(), use_dns_cache=False, socket_factory=_public_socket)


class PublicResolver(AbstractResolver):
    """Resolves a host once, and refuses it if one of its addresses is not public. The connection goes to these."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        addresses = [(info[0], str(info[4][0])) for info in infos]
        for _, address in addresses:
            check_public(host, address)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=of, proto=0, flags=socket.AI_NUMERICHOST)
            for of, address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _public_socket(where: AddrInfoType) -> socket.socket:
    """A socket for a connection to a public address. Every connection is checked here, however its host is written.

    A host with digits of another script becomes a plain address only when the request is made, and is not resolved.
    """
    family, kind, protocol, _, address = where
    check_public(str(address[0]), str(address[0]))
    return socket.socket(family, kind, protocol)
