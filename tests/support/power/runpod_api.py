"""A stand-in for Runpod's REST API v2.

It copies `api-reference-v2/openapi.json` of github.com/runpod/docs (August 2026): the statuses `PROVISIONING`,
`STARTING`, `RUNNING`, `EXITED`, `ERROR`, `TERMINATED`, which actions each allows (else 409), errors as
`application/problem+json` with `title`, `status` and `detail`, `Retry-After` in whole seconds with 429, 404 for a pod
that is not there, `runtime` null while it does not run, public ports that change at each start. Its traps are those of
the pages pods/troubleshooting/zero-gpus and pods/manage-pods: a stopped pod has no claim to a GPU of its host ("There
are not enough free GPUs on the host machine to start this pod", as issue 168 of runpod/runpod-python quotes it), and a
start may bring it up with zero GPUs. No such pod of Runpod's was started for these tests.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from wakestream.adapters.power.runpod import create
from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn
from wakestream.adapters.testing.power_world import Fault
from wakestream.operators.model.ports import PowerState

_WORDS: dict[PowerState, str] = {
    "starting": "PROVISIONING", "running": "RUNNING", "stopping": "RUNNING", "stopped": "EXITED",
    "failed": "ERROR", "terminated": "TERMINATED",
}  # fmt: skip
_ALLOWED = {
    "RUNNING": ("stop", "restart", "terminate"), "EXITED": ("start", "terminate"), "ERROR": ("start", "terminate"),
    "PROVISIONING": ("stop", "terminate"), "STARTING": ("stop", "terminate"), "TERMINATED": (),
}  # fmt: skip


def problem(status: int, title: str, detail: str, **headers: str) -> web.Response:
    return web.json_response(
        {"title": title, "status": status, "detail": detail}, status=status, headers=headers,
        content_type="application/problem+json",
    )  # fmt: skip


class RunpodWorld(HttpStandIn):
    faults, addresses, name = ANY_API | {"no_capacity", "quota"}, True, "studio gpu"
    make = staticmethod(create)
    machine_id = "7h9k2m4n6p"
    shows_stopping = False
    keys = {"RUNPOD_API_KEY": "rpa_0123456789abcdefghij"}  # noqa: RUF012

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v2/pods", self._list), web.get("/v2/pods/{id}", self._get),
            web.post("/v2/pods/{id}/action", self._act),
        ]  # fmt: skip

    def act(self, request: web.Request, body: Any) -> Act:
        return body["action"] if request.path.endswith("/action") else ""  # type: ignore[no-any-return]

    def denied(self) -> web.Response:
        return problem(401, "Unauthorized", f"invalid bearer token {self.secrets[0]}")

    def refused(self, fault: Fault) -> web.Response:
        if fault == "no_capacity":
            return problem(400, "Bad Request", "There are not enough free GPUs on the host machine to start this pod.")
        if fault == "quota":
            return problem(402, "Payment Required", "your account balance is too low to start this pod")
        return problem(418, "Teapot", "E7731 no document knows this")

    async def without_gpu(self) -> None:
        self.no_gpu = True

    async def unknown_word(self) -> None:
        self.machine.odd = "HIBERNATING"

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"pods": [self.pod()]})

    async def _get(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != self.machine_id or self.state == "terminated":
            return problem(404, "Not Found", "pod not found")
        return web.json_response(self.pod())

    async def _act(self, request: web.Request) -> web.Response:
        action, pod = (await request.json())["action"], self.pod()
        if request.match_info["id"] != self.machine_id or self.state == "terminated":
            return problem(404, "Not Found", "pod not found")
        if action not in pod["actions"]:
            return problem(409, "Conflict", f"action {action} is not valid for status {pod['status']}")
        self.start() if action == "start" else self.stop()
        return web.json_response(self.pod())

    def pod(self) -> dict[str, Any]:
        status = self.machine.odd or _WORDS[self.state]
        runs = status == "RUNNING"
        ports = [{"private": 8383, "public": 34446, "type": "tcp", "ip": self.machine.address}]
        started = datetime.fromtimestamp(self.changed_at, UTC).isoformat().replace("+00:00", "Z")
        return {
            "id": self.machine_id, "name": self.name, "status": status, "actions": list(_ALLOWED.get(status, ())),
            "image": "worker", "ports": ["8383/tcp", "22/tcp"], "locked": False, "cloud": "SECURE",
            "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": self.machine.gpus},
            "cost": 0.44 if runs else 0.0, "runtime": {"uptime": 3600, "ports": ports} if runs else None,
            "createdAt": "2026-06-01T12:00:00Z", "startedAt": started if runs else None,
        }  # fmt: skip
