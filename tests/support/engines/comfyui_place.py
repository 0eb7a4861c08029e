"""The ComfyUI that a case runs against, a fake or a real one, with a worker's files and a proxy in between.

A real one: `WAKESTREAM_COMFYUI` is its URL. With its folder in `WAKESTREAM_COMFYUI_FOLDER` the tests start it
(`venv/bin/python main.py --cpu` there), with the nodes of `comfyui_nodes.py`, and may restart it. Without the folder it
must run already and have these nodes; cases that restart it are skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from tests.support.engines.comfyui_server import FakeComfyUi
from tests.support.faults.fault_proxy import FaultProxy, fault_proxy
from tests.support.programs import plain_server
from wakestream.adapters.engines import comfyui
from wakestream.adapters.engines.config import EngineConfig
from wakestream.operators.model.engine import Work

URL, FOLDER = os.environ.get("WAKESTREAM_COMFYUI"), os.environ.get("WAKESTREAM_COMFYUI_FOLDER")
NODES = Path(__file__).with_name("comfyui_nodes.py")
START_WITHIN = 120.0

Graph = dict[str, dict[str, Any]]
P = TypeVar("P", bound="Place")


class Server(Protocol):
    """A ComfyUI: its address, and a way to restart it."""

    url: str

    async def restart(self) -> None:
        """End it as a crash does and start it again; returns when it answers."""


class RealComfyUi:
    """A real one; a process of these tests if its folder is known."""

    def __init__(self) -> None:
        assert URL is not None
        self.url = URL.rstrip("/")
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it if it is ours to start; returns when it answers."""
        if FOLDER is not None and self._process is None:
            shutil.copy(NODES, Path(FOLDER, "custom_nodes", NODES.name))
            command = ("venv/bin/python", "main.py", "--cpu", "--port", str(urlsplit(self.url).port))
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it outlives this test's loop
                command, cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        async with asyncio.timeout(START_WITHIN), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/queue"):
                        return
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """It serves the next test too."""

    def end(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def restart(self) -> None:
        """Kill it and start it again."""
        if FOLDER is None:
            pytest.skip("set WAKESTREAM_COMFYUI_FOLDER to its folder: this case restarts it")
        self.end()
        await self.start()


class Place:
    """One ComfyUI and the folder of a worker beside it. `fake` is unset with a real one."""

    def __init__(self, server: Server, proxy: FaultProxy, folder: Path) -> None:
        self.server, self.proxy, self.folder = server, proxy, folder
        self.fake = server if isinstance(server, FakeComfyUi) else None
        self.restart_url = ""
        self.session = aiohttp.ClientSession()
        self._number = 0
        self._engines: list[comfyui.ComfyUi] = []

    def engine(self, manifest: str, *, keep: Path | None = None, **options: str) -> comfyui.ComfyUi:
        """An engine for the kinds of this manifest; the workflows are already in the folder."""
        (self.folder / "kinds.toml").write_text(manifest)
        options = {"url": self.proxy.url(), "manifest": str(self.folder / "kinds.toml"), **options}
        engine = comfyui.create(EngineConfig(options, folder=keep))
        self._engines.append(engine)
        return engine

    async def close(self) -> None:
        """Close all engines and the session."""
        for engine in self._engines:
            await engine.close()
        await self.session.close()

    def workflow(self, name: str, graph: Graph) -> None:
        """Put a workflow beside the manifest."""
        (self.folder / name).write_text(json.dumps(graph))

    def work(self, kind: str, inputs: Mapping[str, Path], outputs: tuple[str, ...], **params: object) -> Work:
        """A new work of this kind."""
        self._number += 1
        folder = self.folder / f"work-{self._number}"
        folder.mkdir()
        return Work(f"{uuid.uuid4().hex}", kind, inputs, params, outputs, folder)

    async def get(self, path: str) -> Any:
        """The JSON at this path, without the proxy."""
        async with self.session.get(self.server.url + path) as response:
            return await response.json()

    async def post(self, path: str, body: object) -> Any:
        """What it answers, without the proxy."""
        async with self.session.post(self.server.url + path, json=body) as response:
            return await response.json() if response.content_type == "application/json" else None

    async def queue(self) -> tuple[list[str], list[str]]:
        """The ids of what runs and of what waits."""
        rows = await self.get("/queue")
        return [row[1] for row in rows["queue_running"]], [row[1] for row in rows["queue_pending"]]

    async def until_queue(self, holds: Callable[[list[str], list[str]], bool]) -> None:
        """Returns when this holds of what runs and of what waits."""
        async with asyncio.timeout(100):
            while not holds(*await self.queue()):
                pass

    async def ended(self, prompt: str) -> dict[str, Any]:
        """The entry of the history, when it is there."""
        async with asyncio.timeout(100):
            while not (found := await self.get(f"/history/{prompt}")):
                pass
        entry: dict[str, Any] = found[prompt]
        return entry

    def hold(self) -> Path:
        """A new file, as whose `note` a node waits until the file is removed."""
        path = self.folder / f"hold-{uuid.uuid4().hex}"
        path.touch()
        return path

    async def others(self, image: str, hold: Path | None = None) -> str:
        """Queue a prompt of another user, which runs until `hold` is removed; returns its id."""
        graph = wait_graph(image, 0.0)
        graph["2"]["inputs"]["note"] = str(hold or uuid.uuid4().hex)  # else it would not run again
        return str((await self.post("/prompt", {"prompt": graph, "client_id": "somebody"}))["prompt_id"])

    async def upload(self, path: Path) -> str:
        """Put a file into its input folder; returns the name there."""
        form = aiohttp.FormData()
        form.add_field("image", path.read_bytes(), filename=path.name)
        async with self.session.post(f"{self.server.url}/upload/image", data=form) as response:
            return str((await response.json())["name"])

    async def empty(self) -> None:
        """Nothing runs and nothing waits any more."""
        await self.post("/queue", {"clear": True})
        await self.post("/interrupt", {})
        await self.until_queue(lambda running, waiting: not running and not waiting)


@asynccontextmanager
async def place_of(kind: type[P], server: FakeComfyUi | RealComfyUi, folder: Path) -> AsyncIterator[P]:
    """A place with this ComfyUI."""
    await server.start()
    port = urlsplit(server.url).port
    assert port is not None
    try:
        async with fault_proxy(port) as proxy:
            place = kind(server, proxy, folder)
            try:
                async with restarting(place):
                    yield place
                    proxy.heal()
                    if place.fake is None:
                        await place.empty()
            finally:
                await place.close()
    finally:
        await server.stop()


@asynccontextmanager
async def restarting(place: Place) -> AsyncIterator[None]:
    """An address that restarts the server, for a restart command."""

    async def restart(_: web.Request) -> web.Response:
        await place.server.restart()
        return web.Response()

    async with plain_server.answering(restart) as url:
        place.restart_url = f"{url}/"
        yield


def restart_command(place: Place) -> tuple[str, ...]:
    """A command that restarts the server."""
    ask = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], data=b'')"
    return (sys.executable, "-c", ask, place.restart_url)


def wait_graph(image: str, seconds: float) -> Graph:
    """A workflow that takes so many seconds, with no sign of life in between."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "TestWait", "inputs": {"image": ["1", 0], "seconds": seconds}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
