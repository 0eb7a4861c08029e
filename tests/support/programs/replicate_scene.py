"""A daemon with its API for programs, a GPU that is off at first, and Replicate's own clients."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.engines.real_servers import python_of
from tests.support.programs.any_kind_scene import Scene
from tests.support.programs.our_peers import until
from wakestream.adapters.cli.render.job_text import event
from wakestream.adapters.config import settings
from wakestream.adapters.daemon.program import ApiConfig, DaemonConfig, RunningDaemon, running_daemon
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.monitor.program import MonitorConfig, open_monitor
from wakestream.adapters.net.tls import server_tls
from wakestream.adapters.power.config import Machine as Listed
from wakestream.adapters.power.config import Provider
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Reading
from wakestream.streams.monitor.power_machine import PowerPolicy

PEERS = Path(__file__).parents[2] / "peers"
NODE = shutil.which("node")
PYTHON = python_of("replicate")
no_python = pytest.mark.skipif(not PYTHON.is_file(), reason="no Python client of Replicate here (make engines)")
PYTHON_2 = python_of("replicate2")
no_python_2 = pytest.mark.skipif(not PYTHON_2.is_file(), reason="no client 2 of Replicate here (make engines)")
no_node = pytest.mark.skipif(
    NODE is None or not (PEERS / "node_modules" / "replicate").is_dir(), reason="no node client here (make peers)"
)
QUICK = Policy(hub=10.0, poll_every=0.01, health_every=0.01)

_PYTHON = """
import asyncio, io, json, os, sys
import replicate
told = json.loads(sys.argv[1])
def say(value): print("SAID" + json.dumps(value))
"""
_JS = """
import Replicate, { validateWebhook } from 'replicate'
const told = JSON.parse(process.argv[1])
const { REPLICATE_API_TOKEN: auth, REPLICATE_BASE_URL: url } = process.env
const replicate = new Replicate({ auth, baseUrl: `${url}/v1` })
const say = (value) => console.log('SAID' + JSON.stringify(value))
const bytes = async (file) => Buffer.from(await (await file.blob()).arrayBuffer())
"""


class Machine(Provider):
    """A machine that is on while its worker runs."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self.starts = scene, 0
        self._on: asyncio.Task[None] | None = None
        self._off = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        self._off.clear()
        self._on = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._scene.worker():
            await self._off.wait()

    async def stop(self) -> None:
        self._off.set()
        if self._on is not None:
            await self._on
        self._on = None

    async def inspect(self) -> Reading:
        return Reading("running" if self._on else "stopped")

    async def machines(self) -> list[Listed]:
        return [Listed("house", "house", "stopped", price=36_000.0, currency="EUR")]

    async def close(self) -> None:
        await self.stop()


class Programs:
    """The API of a daemon, and clients of it."""

    def __init__(self, scene: Scene, daemon: RunningDaemon, session: aiohttp.ClientSession, token: str | None) -> None:
        self.scene, self.daemon, self.session = scene, daemon, session
        self.url = daemon.api_url
        self.tokens = Tokens(scene.folder / "daemon")
        self.token = token or self.tokens.add("shop")
        self.environment: dict[str, str] = {}

    async def ask(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """One call: its status and its JSON."""
        sent = {"Authorization": f"Bearer {token or self.token}"} | headers
        url = path if path.startswith("http") else self.url + path
        async with self.session.request(method, url, json=body, headers=sent) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.content_type == "application/json" else text

    async def create(self, **body: Any) -> dict[str, Any]:
        """A prediction of the kind `join`."""
        status, plain = await self.ask("POST", "/v1/predictions", {"version": "join", **body})
        assert status == 201, plain
        return dict(plain)

    async def ended(self, id_: str) -> dict[str, Any]:
        """A prediction when it has ended."""
        async with asyncio.timeout(100):
            while True:
                _, plain = await self.ask("GET", f"/v1/predictions/{id_}")
                if plain["completed_at"]:
                    return dict(plain)
                await asyncio.sleep(0.01)

    async def python(self, code: str, **told: Any) -> Any:
        """What a program with Replicate's client for Python says."""
        return await self._run([str(PYTHON), "-c", _PYTHON + code, json.dumps(told)])

    async def python_2(self, code: str, **told: Any) -> Any:
        """What a program with client 2 of Replicate for Python says."""
        return await self._run([str(PYTHON_2), "-c", _PYTHON + code, json.dumps(told)])

    async def js(self, code: str, **told: Any) -> Any:
        """What a program with Replicate's client for JavaScript says."""
        return await self._run([str(NODE), "--input-type=module", "-e", _JS + code, json.dumps(told)])

    async def _run(self, command: list[str]) -> Any:
        environment = {
            **os.environ, "REPLICATE_BASE_URL": self.url, "REPLICATE_API_TOKEN": self.token,
            "REPLICATE_POLL_INTERVAL": "0.05", "NO_PROXY": "*", **self.environment,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, cwd=PEERS, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        said = [json.loads(line.removeprefix("SAID")) for line in out.decode().splitlines() if line.startswith("SAID")]
        assert process.returncode == 0, err.decode()
        return said[0] if len(said) == 1 else said


@asynccontextmanager
async def programs(
    scene: Scene, *, token: str | None = None, probe: bool = False, **api: Any
) -> AsyncIterator[Programs]:
    """A daemon with its API, at the hub of the scene, which runs; for a program with this token, or a new one."""
    state, tls = scene.folder / "daemon", api.pop("tls", None)
    config = ApiConfig("127.0.0.1", 0, event, None if tls is None else server_tls(tls, tls), **api)
    environment: Mapping[str, str] = {**scene.place.client_settings(), "WAKESTREAM_PROBE": str(probe).lower()}
    found = settings.load({}, environment=environment, folder=scene.folder)
    async with (
        aiohttp.ClientSession() as session,
        running_daemon(DaemonConfig(state, api=config), found, QUICK) as daemon,
    ):
        yield Programs(scene, daemon, session, token)


@asynccontextmanager
async def asleep(scene: Scene, hub: HubServer) -> AsyncIterator[Machine]:
    """A monitor whose machine is off, and whose kinds the hub knows."""
    machine = Machine(scene)
    async with scene.worker():
        await until(lambda: any(gpu.online and gpu.kinds for gpu in hub.state.gpus.values()))
    environment = {"API_SERVER_URL": scene.place.hub_url, "WAKESTREAM_KEY": scene.place.keys["monitor"]}
    found = settings.load({"power_machine": "house"}, environment=environment, folder=scene.folder)
    async with open_monitor(MonitorConfig(found, PowerPolicy("gpu", look_soon=0.05, look_rarely=0.05), machine)) as run:
        stop = asyncio.Event()
        watching = asyncio.create_task(run.run(stop))
        try:
            yield machine
        finally:
            stop.set()
            await watching
