"""A machine of one's own: a card that hears magic packets, a real ssh server, and a worker with health.

A packet wakes it if it has the right bytes and the machine is off; UDP says nothing back. The ssh server takes one key,
runs one command, and goes away with the machine, often before it has answered. Off and unreachable look alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import asyncssh
import pytest
from aiohttp import web

from tests.support.ports import free_port
from wakestream.adapters.power import wol
from wakestream.adapters.power.config import PowerConfig, Provider
from wakestream.adapters.testing.power_world import CALL_TIMEOUT, Fault, PowerWorld
from wakestream.operators.model.ports import PowerState

MAC = "00:11:22:aa:bb:cc"
PACKET = b"\xff" * 6 + bytes.fromhex("001122aabbcc") * 16


class OwnMachine(PowerWorld):
    """The machine; `url` is its worker's.

    Args:
        folder: An empty folder for keys.

    Attributes:
        packets: How many packets came, right or wrong.
        hangs_up: The ssh connection breaks before the command has an answer.
        code: The exit code of the command; other than 0, the machine stays on.
        commands: What was run by ssh.
    """

    faults: ClassVar[frozenset[Fault]] = frozenset({"start_ignored"})
    shows_stopping = False
    within = 40.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.health, self.ssh = free_port(), free_port()
        self.packets = 0
        self.hangs_up, self.code = False, 0
        self.commands: list[str] = []
        self.becoming: PowerState | None = None
        self.running: list[Any] = []
        self.changing = asyncio.Lock()
        self.woken = asyncio.Event()
        self.port = 0
        self.options: dict[str, str] = {}
        for name in ("host", "user"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(folder / name)
            key.write_public_key(folder / f"{name}.pub")
        public = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.ssh} {public}")

    @property
    def url(self) -> str:
        """The worker's address."""
        return f"http://127.0.0.1:{self.health}"

    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT, **more: str) -> Provider:
        options = {
            "worker": self.url, "ssh": f"wake@127.0.0.1:{self.ssh}", "ssh_key": str(self.folder / "user"),
            "known_hosts": str(self.folder / "known_hosts"), "broadcast": f"127.0.0.1:{self.port}",
            "quiet": "0.05s", "boot": "8s", **self.options, **more,
        }  # fmt: skip
        return wol.create(PowerConfig(machine or MAC, options, timeout=timeout))

    async def become(self, state: PowerState) -> None:
        if state == "terminated":
            pytest.skip("a machine of one's own is never deleted")
        async with self.changing:
            self.becoming = {"starting": "running", "stopping": "stopped"}.get(state)  # type: ignore[assignment]
            on = state in ("running", "stopping")
            if on and not self.running:
                await self._boot()
            elif not on:
                await self._off()

    async def finish(self) -> None:
        if self.becoming is not None:
            await self.become(self.becoming)

    def heard(self, packet: bytes) -> None:
        """A packet came."""
        self.packets += 1
        if packet != PACKET or self.packets % wol.COPIES != 1:  # the first copy wakes it
            return
        self.calls += 1
        if self.running:
            return
        self.starts += 1
        if self.fault != "start_ignored":
            self.woken.set()
            self.becoming = "running"

    async def command(self, process: asyncssh.SSHServerProcess[str]) -> None:
        """Run a command that came by ssh."""
        self.commands.append(process.command or "")
        if self.code:
            process.stderr.write("sudo: a password is required\n")
            process.exit(self.code)
            return
        self.stops += 1
        self.becoming = "stopped"
        if self.hangs_up:
            process.channel.get_connection().abort()
        else:
            process.exit(0)

    async def _boot(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.health, reuse_address=True).start()
        server = await asyncssh.listen(
            "127.0.0.1", self.ssh, server_host_keys=[str(self.folder / "host")], reuse_address=True,
            authorized_client_keys=str(self.folder / "user.pub"), process_factory=self.command,
        )  # fmt: skip
        self.running = [runner, server]

    async def _off(self) -> None:
        if self.running:
            runner, server = self.running
            self.running = []
            server.close()
            await server.wait_closed()
            await runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        return web.json_response({"code": 0, "data": {"initialized": True}})


class _Card(asyncio.DatagramProtocol):
    def __init__(self, machine: OwnMachine) -> None:
        self.machine = machine

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.machine.heard(data)


@asynccontextmanager
async def own_machine(folder: Path) -> AsyncIterator[OwnMachine]:
    """A machine that is off."""
    machine = OwnMachine(folder)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Card(machine), local_addr=("127.0.0.1", 0)
    )
    machine.port = transport.get_extra_info("sockname")[1]
    try:
        yield machine
    finally:
        transport.close()
        await machine.become("stopped")
