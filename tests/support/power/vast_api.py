"""A stand-in for the API of Vast.ai.

It copies docs.vast.ai (api-reference/instances: manage-instance, show-instance, show-instances) and vastai/SKILL.md and
vastai/api/instances.py of github.com/vast-ai/vast-cli: `PUT /api/v0/instances/{id}/ {"state": "running" | "stopped"}`
answers `{"success": true}` at once and changes only `intended_status`; `actual_status` is null while it is
provisioned, then `loading` and `running`; a stopped instance keeps `exited`; `ports` maps `8383/tcp` to a host port
that changes; an instance that is gone is `{"instances": null}` with HTTP 200, not 404; refusals come as HTTP 200 with
`success` false. The trap of "vastai start instance": without free GPUs nothing is refused, the instance stays in
`scheduling`. `frozen` is billed like running, and `offline` and `unknown` say nothing of the container. The list is
paged (`next_token`). Calls that come too fast get 429 with a plain text and without `Retry-After`
(api-reference/rate-limits-and-errors). No instance of Vast.ai was started for these tests.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from wakestream.adapters.power.vast import create
from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn
from wakestream.adapters.testing.power_world import Fault
from wakestream.operators.model.ports import PowerState

_ACTUAL: dict[PowerState, str | None] = {
    "starting": None, "running": "running", "stopping": "running", "stopped": "exited", "unknown": "offline",
}  # fmt: skip


class VastWorld(HttpStandIn):
    make = staticmethod(create)
    machine_id = "883001"
    keys = {"VAST_API_KEY": "0123456789abcdef0123456789abcdef"}  # noqa: RUF012
    addresses, name = True, "studio gpu"
    faults = ANY_API - {"start_ignored"} | {"no_capacity", "quota"}  # what is accepted is intended, and shows as such

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/instances/", self._list), web.get("/api/v0/instances/{id}/", self._get),
            web.put("/api/v0/instances/{id}/", self._set),
        ]  # fmt: skip

    def act(self, request: web.Request, body: Any) -> Act:
        return {"running": "start", "stopped": "stop"}[body["state"]] if request.method == "PUT" else ""  # type: ignore[return-value]

    def throttled(self) -> web.Response:
        return web.Response(text="API requests too frequent", status=429)

    def denied(self) -> web.Response:
        text = f"Invalid user key {self.secrets[0]}"
        return web.json_response({"success": False, "error": "auth_error", "msg": text}, status=401)

    def refused(self, fault: Fault) -> web.Response:
        error, text = {
            "no_capacity": ("resources_unavailable", "Required resources are currently unavailable."),
            "quota": ("insufficient_credit", "Your account lacks credit; see the billing page."),
        }.get(fault, ("e7731", "no document knows this"))
        return web.json_response({"success": False, "error": error, "msg": text})

    async def unknown_word(self) -> None:
        self.machine.state, self.machine.odd = "running", "hibernating"

    async def _list(self, request: web.Request) -> web.Response:
        if "after_token" not in request.query:
            other = {**self.row(), "id": 883000, "label": None, "actual_status": "frozen"}
            return web.json_response({"instances": [other], "next_token": "t1", "total_instances": 2})
        return web.json_response({"instances": [self.row()], "next_token": None})

    async def _get(self, request: web.Request) -> web.Response:
        here = request.match_info["id"] == self.machine_id and self.state != "terminated"
        return web.json_response({"instances": self.row() if here else None})

    async def _set(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != self.machine_id or self.state == "terminated":
            return web.json_response({"success": False, "error": "no_such_instance", "msg": "gone"}, status=404)
        if (await request.json())["state"] == "running":
            self.start()
        else:
            self.stop()
        return web.json_response({"success": True})

    def row(self) -> dict[str, Any]:
        state = self.state
        runs = state == "running"
        return {
            "id": int(self.machine_id), "label": self.name, "actual_status": self.machine.odd or _ACTUAL[state],
            "intended_status": "stopped" if state in ("stopped", "stopping") else "running",
            "cur_state": "running" if runs else "stopped", "next_state": "running" if runs else "stopped",
            "num_gpus": self.machine.gpus, "gpu_name": "RTX 4090", "dph_total": 0.41,
            "public_ipaddr": f"{self.machine.address}\n", "status_msg": None, "start_date": 1668804745.1,
            "ports": {"8383/tcp": [{"HostIp": "0.0.0.0", "HostPort": "33526"}]} if runs else {},  # noqa: S104
        }  # fmt: skip
