"""The power provider `docker`: a container of a Docker or Podman engine, which is started and stopped.

It uses the Engine API without a version in the path, which every engine answers with its own version.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import aiohttp

from wakestream.adapters.config.addresses import WORKER_PORT, at_port, is_loopback
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.config import Machine, PowerConfig
from wakestream.adapters.power.http_power import HttpPower, Pattern, unix_seconds
from wakestream.operators.model.errors import Denied, NoCapacity, PowerError, Transient, TryAgain
from wakestream.operators.model.ports import PowerState, Reading

SOCKET = "/var/run/docker.sock"
"""Where Docker listens; rootless Podman listens at `$XDG_RUNTIME_DIR/podman/podman.sock`."""

OPTIONS = ("port", "grace", "tls_ca", "tls_cert", "tls_key")

_ENDED_WELL = frozenset({0, 130, 137, 143})
"""Exit codes of a container that ended by itself, or by a signal as `stop` sends it."""


class DockerPower(HttpPower):
    """Switches a container.

    Args:
        config: The configuration. Options: `port`, the worker's port in the container; `grace`, the seconds that the
            container has to end before it is killed; `tls_ca`, `tls_cert` and `tls_key`, files for an engine at
            `base_url=https://...`. Without `base_url` it is the socket of this machine.

    Example:
        >>> power = DockerPower(PowerConfig("lips", {"port": "8383"}))
    """

    name, api = "docker", f"unix://{SOCKET}"
    states: ClassVar[Mapping[str, PowerState]] = {
        **dict.fromkeys(("created", "configured", "initialized", "exited", "stopped"), "stopped"),
        "running": "running",
        "restarting": "starting",
        "stopping": "stopping",
        "removing": "terminated",
        **dict.fromkeys(("paused", "dead"), "failed"),
    }
    errors: ClassVar[Sequence[Pattern]] = (
        (r"port is already allocated|address already in use", NoCapacity),
        (r"could not select device driver|nvidia-container|CDI device|unresolvable", PowerError),
        (r"cannot start a paused container|is paused", PowerError),
        (r"container state improper|being stopped|stopping", TryAgain),
        (r"no such file or directory|executable file not found|permission denied", PowerError),
    )

    def __init__(self, config: PowerConfig) -> None:
        config.known(self.name, OPTIONS)
        self._port = config.option("port", str(WORKER_PORT), partial(_number, least=1))
        self._grace = config.option("grace", "10", _number)
        if self._grace >= config.timeout:
            raise SettingsError(
                f"--power-option grace={self._grace} is not shorter than --call-timeout, {config.timeout:g} s"
            )
        url = config.base_url or self.api
        self._socket = url.removeprefix("unix://") if url.startswith("unix://") else None
        if url.startswith("http://") and not is_loopback(urlsplit(url).hostname or ""):
            raise SettingsError(
                f"--power-option base_url={url[:80]}: write https; an open engine lets everyone be root on its machine"
            )
        self._tls = _tls(config.options)
        super().__init__(replace(config, base_url="http://localhost" if self._socket else url))

    def connector(self) -> aiohttp.BaseConnector | None:
        """See `HttpPower.connector`."""
        if self._socket:
            return aiohttp.UnixConnector(self._socket)
        return aiohttp.TCPConnector(ssl=self._tls) if self._tls else None

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """See `HttpPower.call`."""
        try:
            return await super().call(method, path, **more)
        except Transient as error:
            cause = error.__context__
            if not self._socket or not isinstance(cause, aiohttp.ClientConnectorError):
                raise
            if isinstance(cause.os_error, PermissionError):
                why = f"docker: this user may not use {self._socket}; add it to the socket's group (usually docker)"
                raise Denied(why) from None
            raise Transient(
                f"docker: no engine listens at {self._socket} ({cause.os_error.strerror}); start Docker, or give "
                "--power-option base_url=unix:///PATH"
            ) from None

    async def start(self) -> None:
        """See `Power.start`. A container that runs stays as it is."""
        await self.call("POST", await self._path("start"))

    async def stop(self) -> None:
        """See `Power.stop`. The engine answers when the container has ended, at the latest after the grace."""
        await self.call("POST", await self._path("stop"), params={"t": str(self._grace)})

    async def inspect(self) -> Reading:
        """See `Power.inspect`."""
        container = await self.call("GET", await self._path("json"))
        status = container.get("State") or {}
        state, detail = self.state(str(status.get("Status") or "")), str(status.get("Status") or "no state")
        code, reason = status.get("ExitCode", 0), self.plain(str(status.get("Error") or ""))
        if state == "stopped" and code not in _ENDED_WELL:
            state, detail = "failed", f"the container ended with code {code}; see `docker logs {self._machine}`"
        if reason:
            detail = f"{detail}: {reason}"
        when = status.get("StartedAt" if state == "running" else "FinishedAt")
        address = self._address(container) if state == "running" else None
        return Reading(state, address, unix_seconds(when), detail)

    async def machines(self) -> Sequence[Machine]:
        """See `Provider.machines`: all containers of the engine."""
        containers = await self.call("GET", "/containers/json", params={"all": "true"})
        return [
            Machine(row["Id"][:12], (row.get("Names") or [""])[0].lstrip("/"), self.state(str(row.get("State"))))
            for row in containers
        ]

    async def _path(self, what: str) -> str:
        return f"/containers/{quote(await self.machine(), safe='')}/{what}"

    def _address(self, container: Mapping[str, Any]) -> str | None:
        """The published port, which can be another one after each start, or else the container's own address."""
        network = container.get("NetworkSettings") or {}
        for published in (network.get("Ports") or {}).get(f"{self._port}/tcp") or ():
            host = "127.0.0.1" if self._socket else urlsplit(self._base).hostname or ""
            return at_port(host, int(published["HostPort"]))
        networks = [network, *(network.get("Networks") or {}).values()]
        own = next((settings["IPAddress"] for settings in networks if settings.get("IPAddress")), None)
        return at_port(own, self._port) if own and self._socket else None


def _number(text: str, least: int = 0) -> int:
    number = whole_number(text, least, 65535)
    if number is None:
        raise ValueError(f"write a whole number from {least} to 65535")
    return number


def _tls(options: Mapping[str, str]) -> ssl.SSLContext | None:
    files = {name: Path(options[name]).expanduser() for name in ("tls_ca", "tls_cert", "tls_key") if name in options}
    if not files:
        return None
    try:
        context = ssl.create_default_context(cafile=files.get("tls_ca"))
        if "tls_cert" in files:
            context.load_cert_chain(files["tls_cert"], files.get("tls_key"), password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        given = ", ".join(f"{name}={path}" for name, path in files.items())
        raise SettingsError(f"--power-option {given}: {error.strerror or error}; give files in PEM format") from None
    return context


create = DockerPower
