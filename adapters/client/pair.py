"""The guest's side of pairing: get a license key from a hub by a short code."""

from __future__ import annotations

import asyncio
import socket
import ssl
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, WebSocketException

from wakestream.adapters.config import addresses
from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.hub_link import turned_away
from wakestream.adapters.net.pairing import PATH, PLAIN, Code, Pairing, PairingError, by_authority, by_certificate

WITHIN: Final = 30.0
"""Seconds for the whole exchange."""

_LONGEST: Final = 64 * 1024

T = TypeVar("T")
_Talk = Callable[[ClientConnection, str, Code, bool], Awaitable[T]]
"""What is said over a connection to the hub at an address; the last argument is whether an authority vouches for it."""


@dataclass(frozen=True, slots=True)
class Paired:
    """What a hub gave.

    Attributes:
        role: The role of the license.
        key: The license's key.
        license: Its id.
        gpus: The GPUs that it may serve; empty for any.
        hub_url: The hub's address, or those of its cluster, separated by commas.
        certificate: The hub's own certificate (PEM), which no authority has signed; empty if an authority has.
        signed: The certificate (PEM) of a worker, which the hub signed; empty if none was asked for.
        unreachable: Why the hub could not connect to the port; empty if it could, None if that was not tried.
    """

    role: str
    key: str
    license: str
    gpus: tuple[str, ...]
    hub_url: str
    certificate: str
    unreachable: str | None = None
    signed: str = ""

    def __repr__(self) -> str:
        return f"Paired({self.role}, license {self.license})"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What this side sees of the connection."""

    authority: str = ""
    der: bytes = b""

    def binding(self, kind: str) -> str:
        """The binding of this kind, if this connection has it."""
        if kind == "tls" and self.der:
            return by_certificate(self.der)
        if kind == "authority" and self.authority:
            return self.authority
        if kind == PLAIN and not self.der:
            return PLAIN
        raise PairingError("the hub does not see the connection as this program does; someone may stand in between")


@dataclass(frozen=True, slots=True)
class Invited:
    """What a code is for.

    Attributes:
        role: Its role.
        seen: Our address as the hub sees it; of a hub of an earlier version, that of this end of the connection.
        gpus: The GPUs that it is for; empty for any.
        watched: The GPUs that the hub's monitors switch on.
        signs: Whether the hub signs the certificate of a worker.
    """

    role: str
    seen: str = "127.0.0.1"
    gpus: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    signs: bool = False


async def invited(address: str, code: Code) -> Invited:
    """Return what a code is for, without using it up.

    Args:
        address: As for `pair`.
        code: The code.

    Raises:
        PairingError: As for `pair`.
    """
    return await _with_hub(address, code, _invited)


async def pair(
    address: str, code: Code, opened: Callable[[], AbstractAsyncContextManager[int]] | None = None, request: str = ""
) -> Paired:
    """Get a license from the hub.

    Args:
        address: `HOST`, `HOST:PORT` or the hub's URL, or several, separated by commas. Without a scheme, TLS is tried
            first.
        code: The code that the hub's owner gave.
        opened: For a worker: opens a port and yields it, to which the hub tries to connect.
        request: For a worker: the request for a certificate, which the hub signs.

    Raises:
        PairingError: The code is wrong, used or too old, or no hub answers.

    Example:
        >>> paired = await pair("hub.example:8765", code_from("7F3K-92QD"))
    """
    return await _with_hub(address, code, partial(_exchange, opened, request))


async def _with_hub(address: str, code: Code, talk: _Talk[T]) -> T:
    try:
        async with asyncio.timeout(WITHIN):
            return await _connected(address, code, talk)
    except TimeoutError:
        raise PairingError(f"the hub at {address} did not answer within {WITHIN:g} s") from None


async def _connected(address: str, code: Code, talk: _Talk[T]) -> T:
    parts = [part.strip() for part in address.split(",")]
    urls = [url for part in parts for url in ([part] if "://" in part else [f"wss://{part}", f"ws://{part}"])]
    errors: list[str] = []
    try:
        urls = [addresses.hub_url(url) for url in urls]
    except ValueError as error:
        raise PairingError(f"the address {address[:80]!r} {error}") from None
    for url in urls:
        at = url.removesuffix(addresses.HUB_PATH) + PATH
        for verified in (True, False) if url.startswith("wss") else (False,):
            try:
                makes = ssl.create_default_context if verified else _unverified
                context = makes() if url.startswith("wss") else None
                async with connect(at, ssl=context, open_timeout=10, max_size=_LONGEST) as connection:
                    return await talk(connection, url, code, verified)
            except ssl.SSLCertVerificationError:
                continue  # a certificate of the hub's own: the code proves it
            except (OSError, UnicodeError, InvalidHandshake, InvalidMessage) as error:
                why = no_connection(error) if isinstance(error, OSError) else str(error) or type(error).__name__
                why = turned_away(error.response) if isinstance(error, InvalidStatus) else why
                errors.append(f"{url}: {why}")
                break
            except WebSocketException as error:
                raise PairingError(f"the hub at {url} ended the pairing: {error}") from None
    for url in urls:
        if url.startswith("ws:") and f"wss{url[2:]}" not in urls and await _speaks_tls(url):
            raise PairingError(f"the hub at {url} takes secure connections only; write https:// in its address")
    raise PairingError(f"no hub answers ({'; '.join(errors)}); check the address, and that the hub runs")


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _speaks_tls(url: str) -> bool:
    with suppress(OSError, UnicodeError):
        _, writer = await asyncio.open_connection(addresses.host_of(url), addresses.port_of(url), ssl=_unverified())
        writer.close()
        return True
    return False


async def _begin(connection: ClientConnection, code: Code) -> dict[str, Any]:
    await _send(connection, {"type": "pair.start", "name": code.name})
    return await _receive(connection, "pair.share")


async def _invited(connection: ClientConnection, url: str, code: Code, verified: bool) -> Invited:
    answer = await _begin(connection, code)
    gpus, watched = (tuple(map(str, answer.get(name) or ())) for name in ("gpus", "watched"))
    seen = str(answer.get("seen") or connection.local_address[0])
    return Invited(str(answer.get("role")), seen, gpus, watched, answer.get("signs") is True)


async def _exchange(
    opened: Callable[[], AbstractAsyncContextManager[int]] | None,
    request: str,
    connection: ClientConnection,
    url: str,
    code: Code,
    verified: bool,
) -> Paired:
    tls, seen = connection.transport.get_extra_info("ssl_object"), _Seen()
    if tls is not None:
        authority = by_authority(addresses.host_of(url)) if verified else ""
        seen = _Seen(authority, tls.getpeercert(binary_form=True) or b"")
    answer = await _begin(connection, code)
    binding = seen.binding(str(answer.get("binding")))
    pairing = await asyncio.to_thread(Pairing, code, binding, is_hub=False)
    await asyncio.to_thread(pairing.agree, _bytes(answer, "share"))
    mine = {"share": b64encode(pairing.share).decode(), "proof": b64encode(pairing.proof).decode()}
    mine |= {"request": request} if request else {}
    await _send(connection, {"type": "pair.proof", **mine, "host": socket.gethostname()})
    granted = await _receive(connection, "pair.grant")
    pairing.check(_bytes(granted, "proof"))
    given = pairing.open(_bytes(granted, "sealed"))
    certificate = ssl.DER_cert_to_PEM_cert(seen.der) if binding == by_certificate(seen.der) and not verified else ""
    try:
        gpus = tuple(str(gpu) for gpu in given["gpus"])
        announced = ",".join(map(str, given.get("hubs") or [given["hub"]]))
        hub = addresses.hub_urls(announced) if announced else url
        why = None  # a hub of an earlier version does not try to connect
        if opened is not None:
            with suppress(OSError, PairingError, WebSocketException):
                async with opened() as port:
                    await _send(connection, {"type": "pair.reach", "port": port})
                    why = str((await _receive(connection, "pair.reached")).get("why", ""))
        role, key, id_ = (str(given[name]) for name in ("role", "key", "id"))
        return Paired(role, key, id_, gpus, hub, certificate, why, str(given.get("certificate", "")))
    except ValueError as error:
        raise PairingError(f"the hub's own address in its answer {error}") from None
    except (KeyError, TypeError) as error:
        raise PairingError(f"the hub's answer lacks {error}; use a wakestream of the same version") from None


async def _send(connection: ClientConnection, message: dict[str, Any]) -> None:
    await connection.send(orjson.dumps(message).decode())


async def _receive(connection: ClientConnection, kind: str) -> dict[str, Any]:
    try:
        message = orjson.loads(await connection.recv())
    except orjson.JSONDecodeError:
        message = None
    if isinstance(message, dict) and message.get("type") == "pair.refused":
        raise PairingError(str(message.get("msg", "the hub refused the code")))
    if not isinstance(message, dict) or message.get("type") != kind:
        raise PairingError("the program at this address is not a hub that pairs; update the hub")
    return message


def _bytes(message: dict[str, Any], name: str) -> bytes:
    try:
        return b64decode(str(message.get(name, "")), validate=True)
    except ValueError:
        raise PairingError(f'"{name}" in the hub\'s answer is not base64') from None
