"""A Docker engine with one container, on a Unix socket, and Podman's engine where it runs.

The fake is copied from Docker's own API document (api/swagger.yaml in moby/moby): `/containers/{id}/start` answers 204,
304 if it runs already, 404 with a `message` if it does not exist, 500 otherwise; `stop` blocks until the container has
ended; names and short ids are as good as ids; times have nanoseconds, and year 1 for never; the published port is
another one after each start; `list` has no state but a word.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web

from tests.support.engines.real_servers import until
from tests.support.power.faulty_world import FaultyWorld
from wakestream.adapters.power.config import PowerConfig, Provider
from wakestream.adapters.power.docker import DockerPower
from wakestream.adapters.testing.power_suite import CALL_TIMEOUT, Fault
from wakestream.operators.model.ports import PowerState

ID = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2"
NEVER = "0001-01-01T00:00:00Z"

WORDS: dict[PowerState, str] = {
    "running": "running", "stopped": "exited", "starting": "restarting", "stopping": "stopping", "failed": "dead",
    "terminated": "removing",
}  # fmt: skip

ERRORS: dict[Fault, tuple[int, str]] = {
    "broken": (500, "Internal server error"),
    "denied": (403, "authorization denied by plugin opa-docker-authz: request rejected by administrative policy"),
    "start_broken": (500, "failed to create task for container: context deadline exceeded"),
    "start_unknown": (500, "a reason that no document has"),
    "no_capacity": (500, "driver failed programming external connectivity: Bind for 0.0.0.0:8383 failed: port is "
                         "already allocated"),
}  # fmt: skip


class FakeEngine(FaultyWorld):
    """One container `lips`. Starts and stops take until `finish`."""

    faults: ClassVar[frozenset[Fault]] = FaultyWorld.faults | {"no_capacity"}
    addresses = True
    name = "lips"

    def __init__(self) -> None:
        self.url = ""
        self.word: str | None = "exited"
        self.coming: str | None = None
        self.code = 0
        self.error = ""
        self.published = True
        self.port = 49152

    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT) -> Provider:
        return DockerPower(PowerConfig(machine or ID[:12], {"grace": "0"}, timeout=timeout, base_url=self.url))

    async def become(self, state: PowerState) -> None:
        self.word, self.coming = WORDS[state], "exited" if state == "stopping" else None
        if state == "terminated":
            self.word = None

    async def finish(self) -> None:
        self.word, self.coming = self.coming or self.word, None

    async def move(self) -> None:
        self.port += 1

    async def unknown_word(self) -> None:
        self.word = "dreaming"

    def refusal(self, fault: Fault) -> web.Response:
        status, message = ERRORS[fault]
        return web.json_response({"message": message}, status=status)

    async def asks_start(self, request: web.Request) -> bool:
        return request.path.endswith("/start")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/containers/json":
            assert request.query["all"] == "true"
            return web.json_response(self._listed())
        _, _, name, what = request.path.split("/")
        if self.word is None or name not in (ID, ID[:12], "lips"):
            return web.json_response({"message": f"No such container: {name}"}, status=404)
        if what == "start":
            return await self._start()
        return self._stop() if what == "stop" else web.json_response(self._described())

    async def _start(self) -> web.Response:
        if self.word == "paused":
            return web.json_response({"message": "cannot start a paused container, try unpause instead"}, status=500)
        if self.word in ("running", "restarting"):
            return web.Response(status=304)
        self.starts += 1
        self.port += 1
        self.word, self.coming, self.code = "restarting", "running", 0
        if self.fault == "start_slow":
            self.coming = "restarting"
        return web.Response(status=204)

    def _stop(self) -> web.Response:
        if self.word == "exited":
            return web.Response(status=304)
        self.stops += 1
        self.word, self.coming, self.code = "stopping", "exited", 137
        return web.Response(status=204)

    def _listed(self) -> list[dict[str, Any]]:
        if self.word is None:
            return []
        return [{"Id": ID, "Names": ["/lips"], "Image": "lips:1", "State": self.word, "Status": "Up or not"}]

    def _described(self) -> dict[str, Any]:
        run = self.word == "running"
        ports = {"8383/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(self.port)}]}  # noqa: S104 - Docker's word
        return {
            "Id": ID, "Name": "/lips",
            "State": {
                "Status": self.word, "Running": run, "ExitCode": self.code, "Error": self.error,
                "StartedAt": "2026-01-02T03:04:05.123456789Z", "FinishedAt": NEVER,
            },
            "NetworkSettings": {
                "Ports": ports if run and self.published else {},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2" if run else ""}},
            },
        }  # fmt: skip


class Podman:
    """Podman's own service of Docker's API, with containers of one static program.

    Args:
        folder: Where everything is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"unix://{folder}/podman.sock"
        runtime = ("--runtime", "runc") if shutil.which("runc") else ()  # crun refuses hybrid control groups
        places = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"))
        self.command = ("podman", *places, "--cgroup-manager", "cgroupfs", "--events-backend", "file", *runtime)

    def run(self, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run a command of Podman."""
        return subprocess.run([*self.command, *words], input=data, capture_output=True, timeout=50, check=False)

    def create(self, name: str, *more: str) -> None:
        """Make a container that runs until it is stopped."""
        image = self.run("image", "exists", "idle:1")
        if image.returncode:
            self.run("import", "-", "idle:1", data=_image()).check_returncode()
        self.run("create", "--network", "none", "--name", name, *more, "idle:1", "/bin/busybox", "sleep", "1000")

    def why_not(self) -> str:
        """Why no container can run here; empty if one can."""
        if not (shutil.which("podman") and shutil.which("busybox")):
            return "no podman and busybox-static here"
        self.create("probe")
        started = self.run("start", "probe")
        self.run("rm", "--force", "--time", "0", "probe")
        return f"podman runs no container here: {started.stderr.decode()[-200:]}" if started.returncode else ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Run its service; yields the address."""
        with (self.folder / "service.log").open("ab") as log:
            service = await asyncio.create_subprocess_exec(
                *self.command, "system", "service", "--time", "0", self.url, stdout=log, stderr=log
            )
        try:
            await until(self._listens)
            yield self.url
        finally:
            service.kill()
            await service.wait()
            self.run("rm", "--force", "--all", "--time", "0")

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.url.removeprefix("unix://"))
        except OSError:
            return False
        writer.close()
        return True

    def inspect(self, name: str) -> dict[str, Any]:
        """What Podman itself says of a container."""
        found: dict[str, Any] = json.loads(self.run("inspect", name).stdout)[0]
        return found


def _image() -> bytes:
    busybox = Path(shutil.which("busybox") or "").resolve()
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
    return data.getvalue()
