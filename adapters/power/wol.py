"""The power provider `wol`: a machine of your own, woken by a magic packet and switched off by ssh.

Nothing reports whether such a machine is off: its worker and its ssh port either answer or do not. So a machine that
cannot be reached looks like one that is off, and each reading says so.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.addresses import at_port, worker_url
from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.config.setting_files import SettingsError, naming
from wakestream.adapters.power.config import CannotList, Machine, PowerConfig, Provider, needs
from wakestream.operators.model.errors import Denied, PowerError, Transient, WakestreamError, WorkerUnreachable
from wakestream.operators.model.ports import Reading

OPTIONS = ("worker", "ssh", "ssh_key", "known_hosts", "poweroff", "broadcast", "boot", "quiet")

COPIES = 3
"""Packets sent for each start, since UDP may lose some."""


def magic_packet(mac: str) -> bytes:
    """The packet that wakes the machine with this network card.

    Args:
        mac: The card's address, such as `00:11:22:aa:bb:cc`.

    Raises:
        ValueError: It is not such an address.

    Example:
        >>> len(magic_packet("00:11:22:aa:bb:cc"))
        102
    """
    digits = re.sub(r"[:-]", "", mac)
    if not re.fullmatch(r"[0-9a-fA-F]{12}", digits):
        raise ValueError(f"{mac[:40]!r} is not the address of a network card; write for example 00:11:22:aa:bb:cc")
    return b"\xff" * 6 + bytes.fromhex(digits) * 16


class WolPower(Provider):
    """Wakes a machine by a magic packet.

    Args:
        config: The configuration. The machine is the address of its network card. Options: `worker`, the worker's
            address; `ssh`, `USER@HOST[:PORT]` of an account that may switch it off; `ssh_key`, a key file (by default
            those of `~/.ssh` and the agent); `known_hosts`, the file with the machine's host key; `poweroff`, the
            command (by default `sudo systemctl poweroff`); `broadcast`, where packets go (`255.255.255.255:9`);
            `boot`, the longest time of a boot or of a power-off (5min); `quiet`, how long a machine that was on must
            not answer until it counts as off (30s).

    Example:
        >>> config = PowerConfig("00:11:22:aa:bb:cc", {"worker": "http://10.0.0.7:8383", "ssh": "wake@10.0.0.7"})
    """

    def __init__(self, config: PowerConfig) -> None:
        options = config.known("wol", OPTIONS, ("worker", "ssh"))
        self._options, self._limit = options, config.timeout
        with naming("--machine:"):
            self._packet = magic_packet(config.needs_machine("wol")) if config.machine is not None else b""
        self._worker = config.option("worker", "", worker_url)
        text = options["ssh"]
        match = re.fullmatch(r"([^@\s]+)@(\[[0-9a-fA-F:]+\]|[^@:\s\[\]]+)(?::(\d{1,5}))?", text)
        if match is None:
            raise SettingsError(f"--power-option ssh={text[:80]}: write USER@HOST or USER@HOST:PORT")
        self._user, self._host, self._port = match[1], match[2].strip("[]"), int(match[3] or 22)
        self._broadcast = config.option("broadcast", "255.255.255.255:9", _target)
        self._boot = config.option("boot", "5min", seconds)
        self._quiet = config.option("quiet", "30s", seconds)
        self._ssh = needs("asyncssh", "wol")
        self._workers = HttpWorkers(self._worker)
        self._woken: float | None = None
        self._stopped: float | None = None
        self._seen: float | None = None

    async def start(self) -> None:
        """Send the packet. Whether it arrives, and whether the machine listens to it, nothing tells."""
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                for _ in range(COPIES):
                    udp.sendto(self._packet, self._broadcast)
        except OSError as error:
            raise Transient(f"wol: the packet cannot be sent to {at_port(*self._broadcast)}: {error}") from None
        self._woken, self._stopped = time.monotonic(), None

    async def stop(self) -> None:
        """Run the command by ssh; nothing if the machine does not answer."""
        if not await self._answers():
            return
        try:
            async with (
                asyncio.timeout(0.5 * self._limit),  # the look before it took some of the time
                self._ssh.connect(self._host, self._port, **self._login()) as at,
            ):
                ended = await at.run(self._options.get("poweroff", "sudo systemctl poweroff"))
        except (self._ssh.ConnectionLost, ConnectionResetError):
            pass  # it went off before it could answer
        except TimeoutError:
            raise Transient(f"wol: ssh to {self._host} did not end within {0.5 * self._limit:g} s") from None
        except (self._ssh.Error, OSError) as error:
            raise self._ssh_error(error) from None
        else:
            if ended.exit_status:
                raise PowerError(f"wol: the command to power off ended with code {ended.exit_status}: {_words(ended)}")
        self._woken, self._stopped = None, time.monotonic()

    async def inspect(self) -> Reading:
        """Ask the worker for its health, and knock at the ssh port."""
        now = time.monotonic()
        if await self._answers():
            self._seen = now
            if self._stopped is not None and now - self._stopped < self._boot:
                return Reading("stopping", detail="the power-off was asked for, and it still answers")
            self._woken = self._stopped = None
            return Reading("running", self._worker, detail="it answers")
        if self._woken is not None and now - self._woken < self._boot:
            return Reading("starting", detail="the packet was sent, it does not answer yet")
        if self._seen is not None and now - self._seen < self._quiet:
            return Reading("unknown" if self._stopped is None else "stopping", detail="it does not answer any more")
        self._woken = self._seen = self._stopped = None
        return Reading("stopped", detail="neither its worker nor its ssh port answers: it is off, or cannot be reached")

    async def machines(self) -> Sequence[Machine]:
        """Nothing lists such machines."""
        raise CannotList("wol: nothing lists PCs; --machine is the address of its network card, which `ip link` shows")

    async def close(self) -> None:
        """Close the connections to the worker."""
        await self._workers.close()

    async def _answers(self) -> bool:
        async with asyncio.TaskGroup() as both:
            health, port = both.create_task(self._healthy()), both.create_task(self._listens())
        return health.result() or port.result()

    async def _healthy(self) -> bool:
        try:
            async with asyncio.timeout(0.4 * self._limit):
                await self._workers.at(None).health()
        except WorkerUnreachable:
            return False
        except (WakestreamError, TimeoutError) as error:
            return not isinstance(error, TimeoutError)  # an answer, even if a bad one
        return True

    async def _listens(self) -> bool:
        try:
            async with asyncio.timeout(0.4 * self._limit):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def _login(self) -> Mapping[str, Any]:
        login: dict[str, Any] = {"username": self._user, "config": None, "password_auth": False, "kbdint_auth": False}
        for name, argument in (("ssh_key", "client_keys"), ("known_hosts", "known_hosts")):
            if name in self._options:
                login[argument] = str(Path(self._options[name]).expanduser())
        return login

    def _ssh_error(self, error: Exception) -> PowerError:
        who = f"{self._user}@{at_port(self._host, self._port)}"
        if isinstance(error, self._ssh.PermissionDenied):
            return Denied(f"wol: {who} refuses the key; add its public half to ~/.ssh/authorized_keys there ({error})")
        if isinstance(error, self._ssh.HostKeyNotVerifiable):
            return Denied(f"wol: the host key of {who} is not in known_hosts, or is another one ({error})")
        if isinstance(error, self._ssh.KeyImportError | FileNotFoundError | PermissionError):
            return Denied(f"wol: the key for {who} cannot be read: {error}")
        return Transient(f"wol: no ssh to {who}: {error}")


def _target(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?", text)
    if match is None:
        raise ValueError("write the broadcast address of its network, such as 10.0.0.255:9")
    return match[1], int(match[2] or 9)


def _words(ended: Any) -> str:
    return " ".join(str(ended.stderr or ended.stdout or "no output").split())[:300]


create = WolPower
