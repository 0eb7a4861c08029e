"""The power provider `redfish`: a server of your own, by the Redfish API of its management controller (BMC)."""

from __future__ import annotations

import base64
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
from loguru import logger

from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.config import Machine, PowerConfig
from wakestream.adapters.power.http_power import HttpPower, Pattern
from wakestream.operators.model.errors import Gone, PowerError, Transient, TryAgain
from wakestream.operators.model.ports import PowerState, Reading

OPTIONS = ("certificate", "fingerprint", "grace", "address")

SYSTEMS = "/redfish/v1/Systems"


SERIES = 600.0
"""Seconds between two calls of `stop` that are one attempt; the monitor repeats a call every minute."""


class RedfishPower(HttpPower):
    """Switches a server by its management controller.

    The credentials are `REDFISH_USER` and `REDFISH_PASSWORD`, sent with each request (HTTP basic authentication).

    Args:
        config: The configuration; `base_url` is the controller's address. The machine is the system's id or name.
            Options: `certificate`, a file with the controller's own certificate, or `fingerprint`, its SHA-256: then
            exactly that certificate is accepted, whatever name it has; `grace`, the time after which a system that
            ignores a graceful shutdown is switched off (2min); `address`, the worker's address.

    Example:
        >>> power = RedfishPower(PowerConfig("1", {"fingerprint": "ab:cd:..."}, base_url="https://bmc.example"))
    """

    name = "redfish"
    id_form = r"(?!)"  # ids have no form of their own: the list tells ids and names apart
    states: ClassVar[Mapping[str, PowerState]] = {
        "on": "running",
        "off": "stopped",
        "poweringon": "starting",
        "poweringoff": "stopping",
        "paused": "failed",
    }
    errors: ClassVar[Sequence[Pattern]] = (
        (r"InvalidOperationForSystemState|already powered|ResourceInUse|ServiceTemporarilyUnavailable", TryAgain),
        (r"ActionNotSupported|ActionParameterNotSupported|ActionParameterValue", PowerError),
    )

    def __init__(self, config: PowerConfig) -> None:
        options = config.known(self.name, OPTIONS)
        if not config.base_url:
            raise SettingsError("--power redfish needs --power-option base_url=https://BMC, the controller's address")
        self._grace = config.option("grace", "2min", seconds)
        self._address = options.get("address")
        self._tls = _pin(options)
        super().__init__(config)
        self._user = config.secret("REDFISH_USER")
        self._password = self.secret("REDFISH_PASSWORD")
        self._asked: float | None = None
        self._repeated: float | None = None

    def headers(self) -> Mapping[str, str]:
        """See `HttpPower.headers`."""
        both = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        return {"Authorization": f"Basic {both}", "OData-Version": "4.0"}

    def connector(self) -> aiohttp.BaseConnector | None:
        """See `HttpPower.connector`."""
        return None if self._tls is None else aiohttp.TCPConnector(ssl=self._tls)

    def message(self, document: Any) -> tuple[object, str]:
        """See `HttpPower.message`: the DMTF's form of errors."""
        error = document.get("error") if isinstance(document, Mapping) else None
        if not isinstance(error, Mapping):
            return super().message(document)
        infos = [info for info in error.get("@Message.ExtendedInfo") or () if isinstance(info, Mapping)]
        more = "; ".join(f"{info.get('MessageId', '')} {info.get('Message', '')}".strip() for info in infos)
        return error.get("code", ""), more or str(error.get("message", ""))

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """See `HttpPower.call`."""
        try:
            return await super().call(method, path, **more)
        except Gone as error:  # a machine of your own is not deleted; controllers say this while they start
            raise Transient(f"{error}; is --machine the id of a system?") from None
        except Transient as error:
            raise _untrusted(error) or error from None

    async def start(self) -> None:
        """See `Power.start`. Controllers refuse it for a system that is on, so that it is asked for its state first."""
        self._asked = None
        system = await self._system()
        if self.state(str(system.get("PowerState"))) != "running":
            await self._reset(system, "On", "ForceOn", "PushPowerButton")

    async def stop(self) -> None:
        """See `Power.stop`: first a graceful shutdown; a repeated call after the grace switches the power off."""
        system = await self._system()
        if self.state(str(system.get("PowerState"))) == "stopped":
            return
        now = time.monotonic()
        if self._repeated is None or now - self._repeated > SERIES:
            self._asked = None  # the machine stayed on for other work since the last stop
        self._repeated = now
        if self._asked is None:
            try:
                await self._reset(system, "GracefulShutdown", "PushPowerButton", "ForceOff")
            except Transient:
                raise  # it was not asked for: its time has not begun
            except PowerError:
                self._asked = now  # the system refuses it, so that the power is cut after the grace
                raise
            self._asked = now
        elif now - self._asked >= self._grace:
            logger.warning("redfish: {} ignored the shutdown for {:g} s, its power is cut", self._machine, self._grace)
            await self._reset(system, "ForceOff")

    async def inspect(self) -> Reading:
        """See `Power.inspect`."""
        system = await self._system()
        word = str(system.get("PowerState"))
        state = self.state(word)
        if state == "stopped":
            self._asked = None
        health = (system.get("Status") or {}).get("Health")
        detail = word if health in (None, "OK") else f"{word}, health {self.plain(str(health))}"
        return Reading(state, self._address if state == "running" else None, detail=detail)

    async def machines(self) -> Sequence[Machine]:
        """See `Provider.machines`: the systems of this controller. `gpu` is the model."""
        members = (await self.call("GET", SYSTEMS)).get("Members", ())
        systems = [await self.call("GET", _path(member["@odata.id"])) for member in members]
        return [
            Machine(
                str(row["Id"]), str(row.get("Name") or ""), self.state(str(row.get("PowerState"))),
                " ".join(str(row[key]) for key in ("Manufacturer", "Model") if row.get(key)), address=self._address,
            )
            for row in systems
        ]  # fmt: skip

    async def _system(self) -> Mapping[str, Any]:
        system = await self.call("GET", f"{SYSTEMS}/{await self.machine()}")
        if not isinstance(system, Mapping):
            raise Transient("redfish: the controller answered without a system")
        return system

    async def _reset(self, system: Mapping[str, Any], *kinds: str) -> None:
        """Ask for the first of these kinds of reset that the system knows."""
        action = (system.get("Actions") or {}).get("#ComputerSystem.Reset") or {}
        allowed = action.get("ResetType@Redfish.AllowableValues") or kinds
        kind = next((wanted for wanted in kinds if wanted in allowed), None)
        if kind is None:
            raise PowerError(f"redfish: {self._machine} knows none of {', '.join(kinds)}; it has {', '.join(allowed)}")
        target = action.get("target") or f"{SYSTEMS}/{await self.machine()}/Actions/ComputerSystem.Reset"
        await self.call("POST", _path(target), body={"ResetType": kind})


def _untrusted(error: Transient) -> PowerError | None:
    """The error of a controller whose certificate is not accepted; None for other errors."""
    cause = error.__context__
    if isinstance(cause, aiohttp.ServerFingerprintMismatch):
        pin = cause.got.hex(":")
        return PowerError(f"redfish: {cause.host} has another certificate than the pinned one; its SHA-256 is {pin}")
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return PowerError(
            f"redfish: the certificate of {cause.host} is not trusted ({cause.certificate_error}); if it is "
            "self-signed, pin it with --power-option certificate=FILE or fingerprint=SHA256"
        )
    return None


def _path(text: str) -> str:
    """A path that the controller names, if it is one of its own."""
    if not re.fullmatch(r"/[A-Za-z0-9_.~!$&'()*+,;=:@%/#-]*", text) or text.startswith("//"):
        raise PowerError(f"redfish: the controller names the path {text[:80]!r}, which is not one of its own")
    return text


def _pin(options: Mapping[str, str]) -> aiohttp.Fingerprint | None:
    if "certificate" in options:
        path = Path(options["certificate"]).expanduser()
        try:
            pem = path.read_text("ascii")
            der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :])
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"--power-option certificate={path}: {error}; give the controller's certificate in PEM format"
            ) from None
        import hashlib

        return aiohttp.Fingerprint(hashlib.sha256(der).digest())
    text = re.sub(r"[:\s]", "", options.get("fingerprint", ""))
    if not text:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise SettingsError("--power-option fingerprint: write the SHA-256 of the certificate, 64 hexadecimal digits")
    return aiohttp.Fingerprint(bytes.fromhex(text))


create = RedfishPower
