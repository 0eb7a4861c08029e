"""The hub's side of pairing: a guest that knows a code gets a license key, encrypted for it alone."""

from __future__ import annotations

import asyncio
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection
from typing import Any, Final

import orjson
from loguru import logger
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from wakestream.adapters.config.addresses import host_of
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.licenses import LicenseError
from wakestream.adapters.net.connection_limits import Rate
from wakestream.adapters.net.pairing import PLAIN, Pairing, PairingError, by_authority, by_certificate
from wakestream.adapters.net.tls import ServerTls

_LEFT: Final = {0: "no tries left; make a new one with wakestream invite", 1: "1 try left"}

WITHIN: Final = 30.0
"""Seconds for the whole exchange."""

BURST: Final = 10
EVERY: Final = 6.0
"""An address may try ten codes at once, then one every six seconds."""

REACH_WITHIN: Final = 5.0
"""Seconds for a connection to a guest's port."""

GPUS: Final = 20
"""Names of GPUs that a guest can choose from."""

_LONGEST: Final = 4096
_NAME: Final = 64


class PairingDesk:
    """Serves the connections at `/pair`.

    Args:
        config: The hub's settings. A certificate of its own signs those of workers.
        invites: The invitations.
        address_of: The address of a peer, for the limit.
        gpus: Returns the GPUs that monitors watch.
        refusal: Returns why the hub takes no further program of a role; empty if it does.
    """

    def __init__(
        self,
        config: HubConfig,
        invites: Invites,
        address_of: Callable[[ServerConnection], str],
        gpus: Callable[[], Collection[str]],
        refusal: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._config, self._invites, self._address_of, self._gpus = config, invites, address_of, gpus
        self._refusal = refusal
        self._tls = config.tls if config.tls is not None and config.tls.can_sign else None
        self._tries = Rate(BURST, EVERY)

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one guest, and close the connection."""
        try:
            async with asyncio.timeout(WITHIN):
                await self._pair(socket)
        except (PairingError, LicenseError) as error:
            await _send(socket, {"type": "pair.refused", "code": error.code, "msg": str(error)})
        except (TimeoutError, ConnectionClosed):
            logger.debug("a guest left during pairing")
        finally:
            await socket.close()

    async def _pair(self, socket: ServerConnection) -> None:
        address, start = self._address_of(socket), await _receive(socket, "pair.start")
        if (wait := self._tries.wait(address)) > 0:
            raise PairingError(f"too many codes came from this address; try again in {math.ceil(wait)} s")
        self._tries.count(address)
        name = str(start.get("name", ""))[:_NAME]
        invite = await asyncio.to_thread(self._invites.find, name, self._config.clock())
        unknown = PairingError(f"the code {name}-… is unknown, used or too old; make a new one with wakestream invite")
        if invite is None:
            raise unknown
        if why := self._refusal(invite.role):
            raise PairingError(f"{why}; the code was not used")
        binding = _binding(self._config.tls, invite.public, socket)
        pairing = await asyncio.to_thread(Pairing, invite.code, binding, is_hub=True)
        shown = {"share": b64encode(pairing.share).decode(), "binding": binding.partition(" ")[0]}
        of_gpus = {"gpus": [*invite.gpus], "watched": sorted(self._gpus())[:GPUS], "signs": self._tls is not None}
        await _send(socket, {"type": "pair.share", "role": invite.role, "seen": address, **of_gpus, **shown})
        proof = await _receive(socket, "pair.proof")
        left = await asyncio.to_thread(self._invites.reserve, invite, self._config.clock())
        if left is None:
            raise unknown
        try:
            await asyncio.to_thread(pairing.agree, _bytes(proof, "share"))
            pairing.check(_bytes(proof, "proof"), _LEFT.get(left, f"{left} tries left"))
        except PairingError:
            logger.warning("a wrong guess of the code {}-… came from {}", invite.code.name, address)
            raise
        signed = await self._signed(proof.get("request"), address)
        host = str(proof.get("host", ""))[:_NAME]
        note = "".join(letter for letter in host if letter.isprintable()) or "paired"
        license_, key = await asyncio.to_thread(self._invites.redeem, invite, self._config.clock(), note)
        given = {"role": invite.role, "key": key, "id": license_, "gpus": list(invite.gpus), "hub": invite.public}
        if "," in invite.public:  # guests of earlier versions know one address
            given |= {"hub": invite.public.partition(",")[0], "hubs": invite.public.split(",")}
        given |= {"certificate": signed} if signed else {}
        sealed = b64encode(pairing.seal(given)).decode()
        await _send(socket, {"type": "pair.grant", "proof": b64encode(pairing.proof).decode(), "sealed": sealed})
        logger.info("paired: license {} ({}) for {}", license_, invite.role, note)
        if invite.role in ("worker", "depot"):
            # Whether other machines can connect to a port of the guest. Only its own address is tried.
            port = (await _receive(socket, "pair.reach")).get("port")
            if not isinstance(port, int) or not 0 < port < 65536:
                raise PairingError(f"{str(port)[:20]!r} is no port")
            why = ""
            try:
                async with asyncio.timeout(REACH_WITHIN):
                    _, writer = await asyncio.open_connection(self._address_of(socket), port)
                writer.close()
            except OSError as error:
                why = error.strerror or str(error) or type(error).__name__
            await _send(socket, {"type": "pair.reached", "why": why})

    async def _signed(self, request: Any, address: str) -> str:
        """The certificate that a guest asks for; empty if it asks for none."""
        if request is None:
            return ""
        if self._tls is None:
            raise PairingError("this hub signs no certificates; give --tls-cert and --tls-key")
        try:
            return await asyncio.to_thread(self._tls.sign, str(request), address)
        except ValueError as error:
            raise PairingError(str(error)) from None


async def _send(socket: ServerConnection, message: dict[str, Any]) -> None:
    try:
        await socket.send(orjson.dumps(message).decode())
    except ConnectionClosed:
        logger.debug("a guest left during pairing")


async def _receive(socket: ServerConnection, kind: str) -> dict[str, Any]:
    data = await socket.recv(decode=False)
    try:
        message = orjson.loads(data) if len(data) <= _LONGEST else None
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict) or message.get("type") != kind:
        raise PairingError(f"the hub expected a message {kind}; use a wakestream of the same version")
    return message


def _bytes(message: dict[str, Any], name: str) -> bytes:
    try:
        return b64decode(str(message.get(name, "")), validate=True)
    except ValueError:
        raise PairingError(f'"{name}" is not base64') from None


def _binding(tls: ServerTls | None, public: str, socket: ServerConnection) -> str:
    """What a guest's connection is bound to: our certificate, or that of the proxy at the public address it uses."""
    if tls is not None:
        return by_certificate(tls.certificate)
    hosts = [host_of(url) for url in public.split(",")]
    asked = host_of(f"wss://{socket.request.headers.get('Host', '')}") if socket.request is not None else ""
    return by_authority(asked if asked in hosts else hosts[0]) if public.startswith("wss:") else PLAIN
