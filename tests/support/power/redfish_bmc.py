"""A management controller with one system, for what sushy-emulator has not.

Copied from the DMTF's Redfish specification (DSP0266) and the schema of ComputerSystem: errors are
`error.@Message.ExtendedInfo`; a reset that does not fit the state is refused with 409; a graceful shutdown is accepted
and may be ignored by the system's operating system; a controller that is not ready yet answers 503 with the message
ServiceTemporarilyUnavailable and `Retry-After`, as bmcweb of openbmc does; controllers differ in the kinds of reset
that they have.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, ClassVar

import pytest
from aiohttp import web

from wakestream.adapters.power import redfish
from wakestream.adapters.testing.http_stand_in import Act, HttpStandIn
from wakestream.operators.model.ports import PowerState

ID = "System.Embedded.1"
PATH = f"/redfish/v1/Systems/{ID}"


class RedfishWorld(HttpStandIn):
    """One server.

    Attributes:
        booting: The controller itself starts, and does not find its own system yet.
        ignores: Its operating system ignores graceful shutdowns.
        kinds: The kinds of reset that it has.
        resets: The kinds that were asked for.
    """

    make = staticmethod(redfish.create)
    machine_id, name = ID, "rack 3, top"
    keys: ClassVar[dict[str, str]] = {"REDFISH_USER": "wakestream", "REDFISH_PASSWORD": "correct horse"}

    def __init__(self) -> None:
        super().__init__()
        self.options = {"grace": "1s"}
        self.secrets = ("correct horse",)
        self.ignores = self.booting = False
        self.kinds = ["On", "ForceOff", "GracefulShutdown", "ForceRestart"]
        self.resets: list[str] = []

    async def become(self, state: PowerState) -> None:
        if state == "terminated":
            pytest.skip("a machine of one's own is never deleted")
        await super().become(state)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/redfish/v1/Systems", self._list),
            web.get(PATH, self._describe),
            web.post(f"{PATH}/Actions/ComputerSystem.Reset", self._reset),
        ]

    async def unknown_word(self) -> None:
        self.machine.odd = "Hibernating"

    async def replace(self) -> None:
        pytest.skip("a machine of one's own is never made again")

    def act(self, request: web.Request, body: Any) -> Act:
        kind = body.get("ResetType", "")
        return "" if not kind else "start" if kind in ("On", "ForceOn") else "stop"

    def throttled(self) -> web.Response:
        refusal = _error(503, "Base.1.8.ServiceTemporarilyUnavailable", "The service is temporarily unavailable.")
        refusal.headers["Retry-After"] = "1"
        return refusal

    def trusts(self, request: web.Request, body: Any) -> bool:
        both = b64encode(b"wakestream:correct horse").decode()
        return request.headers.get("Authorization") == f"Basic {both}"

    def denied(self) -> web.Response:
        return _error(401, "Base.1.8.NoValidSession", "no session for wakestream with the password correct horse")

    def refused(self, _: object) -> web.Response:
        return _error(400, "Vendor.1.0.Peculiar", "a reason that no document has")

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"Members": [{"@odata.id": PATH}], "Members@odata.count": 1})

    async def _describe(self, request: web.Request) -> web.Response:
        if self.booting or self.fault == "missing":
            return _error(404, "Base.1.8.ResourceMissingAtURI", f"The resource at {PATH} was not found.")
        words = {"running": "On", "stopped": "Off", "starting": "PoweringOn", "stopping": "PoweringOff"}
        return web.json_response({
            "Id": ID, "Name": self.name, "Manufacturer": "ACME", "Model": "G9", "Status": {"Health": "OK"},
            "PowerState": self.machine.odd or words[self.state],
            "Actions": {"#ComputerSystem.Reset": {
                "target": f"{PATH}/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": self.kinds,
            }},
        })  # fmt: skip

    async def _reset(self, request: web.Request) -> web.Response:
        kind = (await request.json())["ResetType"]
        if kind not in self.kinds:
            return _error(400, "Base.1.8.ActionParameterNotSupported", f"{kind} is not supported")
        fits = ("stopped", "stopping") if kind == "On" else ("running", "starting", "stopping")
        if self.machine.state not in fits:
            return _error(409, "IDRAC.2.8.PSU501", f"Unable to complete: already powered {self.machine.state}")
        self.resets.append(kind)
        if kind == "On":
            self.start()
        elif not (kind == "GracefulShutdown" and self.ignores):
            self.stop()
        return web.Response(status=204)


def _error(status: int, code: str, message: str) -> web.Response:
    info = {"MessageId": code, "Message": message, "Severity": "Critical", "Resolution": "None."}
    text = "See @Message.ExtendedInfo for more information."
    return web.json_response(
        {"error": {"code": "Base.1.8.GeneralError", "message": text, "@Message.ExtendedInfo": [info]}}, status=status
    )
