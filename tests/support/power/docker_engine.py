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
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.engines.real_servers import until
from wakestream.adapters.power import docker
from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn
from wakestream.adapters.testing.power_world import Fault

ID = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2"
NEVER = "0001-01-01T00:00:00Z"


class DockerWorld(HttpStandIn):
    """One container `lips`."""

    faults = ANY_API - {"busy", "start_busy", "stop_busy"} | {"no_capacity"}  # an engine has no such answers
    addresses = True
    make = staticmethod(docker.create)
    machine_id, keys, name = ID[:12], {}, "lips"

    def __init__(self) -> None:
        super().__init__()
        self.options = {"grace": "0"}
        self.code, self.error, self.published, self.port = 0, "", True, 49152

    async def move(self) -> None:
        self.port += 1

    async def replace(self) -> None:
        """Its name is as good as an id."""

    async def unknown_word(self) -> None:
        self.machine.odd = "dreaming"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/containers/json", self._list),
            web.post("/containers/{id}/start", self._start),
            web.post("/containers/{id}/stop", self._stop),
            web.get("/containers/{id}/json", self._describe),
        ]

    def act(self, request: web.Request, body: Any) -> Act:
        last = request.path.rpartition("/")[2]
        return last if last in ("start", "stop") else ""  # type: ignore[return-value]

    def denied(self) -> web.Response:
        why = "authorization denied by plugin opa-docker-authz: request rejected by administrative policy"
        return web.json_response({"message": why}, status=403)

    def refused(self, fault: Fault) -> web.Response:
        bound = (
            "driver failed programming external connectivity: Bind for 0.0.0.0:8383 failed: port is already allocated"
        )
        return web.json_response({"message": bound if fault == "no_capacity" else "no document says this"}, status=500)

    def word(self) -> str:
        """The container's state in Docker's words."""
        words = {"stopped": "exited", "starting": "restarting", "failed": "dead"}
        return self.machine.odd or words.get(self.state, self.state)

    def _missing(self, request: web.Request) -> web.Response | None:
        if self.state != "terminated" and request.match_info["id"] in (ID, ID[:12], "lips"):
            return None
        return web.json_response({"message": f"No such container: {request.match_info['id']}"}, status=404)

    async def _start(self, request: web.Request) -> web.Response:
        if (missing := self._missing(request)) is not None:
            return missing
        if self.word() == "paused":
            return web.json_response({"message": "cannot start a paused container, try unpause instead"}, status=500)
        if self.machine.state in ("running", "starting"):
            return web.Response(status=304)
        self.start()
        self.port, self.code = self.port + 1, 0
        return web.Response(status=204)

    async def _stop(self, request: web.Request) -> web.Response:
        if (missing := self._missing(request)) is not None:
            return missing
        assert request.query["t"] == "0"
        if self.machine.state == "stopped":
            return web.Response(status=304)
        self.stop()
        self.code = 137
        return web.Response(status=204)

    async def _list(self, request: web.Request) -> web.Response:
        assert request.query["all"] == "true"
        here = [] if self.state == "terminated" else [ID]
        return web.json_response([{"Id": each, "Names": ["/lips"], "State": self.word()} for each in here])

    async def _describe(self, request: web.Request) -> web.Response:
        if (missing := self._missing(request)) is not None:
            return missing
        run, at = self.word() == "running", datetime.fromtimestamp(self.changed_at, UTC)
        since = f"{at:%Y-%m-%dT%H:%M:%S.%f}789Z"
        ports = {"8383/tcp": [{"HostIp": "", "HostPort": str(self.port)}]}
        return web.json_response({
            "Id": ID, "Name": "/lips",
            "State": {
                "Status": self.word(), "Running": run, "ExitCode": self.code, "Error": self.error,
                "StartedAt": since if run else NEVER, "FinishedAt": NEVER if run or self.error else since,
            },
            "NetworkSettings": {
                "Ports": ports if run and self.published else {},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2" if run else ""}},
            },
        })  # fmt: skip


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

    def clean(self) -> None:
        """Remove all of it; `system reset` would also remove networks that are not ours."""
        self.run("rm", "--force", "--all", "--time", "0")
        self.run("rmi", "--all", "--force")

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
