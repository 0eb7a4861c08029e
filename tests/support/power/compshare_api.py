"""A stand-in for the API of CompShare (UCloud, 优云智算).

It copies pages/gpus/instance/{describe,start,stop}compshareinstance.md and pages/gpus/compshareerrorcode.md of
github.com/BennielAllan/compshare-docs (the provider's documents) and the signature of
ucloud/core/auth/_cfg.py of github.com/ucloud/ucloud-sdk-python3: one form `POST`, SHA-1 over the sorted names and
values and the private key; errors with HTTP 200, `RetCode` and `Message`; Region and Zone are needed for start and
stop, not for describe; an instance that is not there is an empty `UHostSet`; `State` is empty when it could not be read
in time; `GPU` is 0 after a start without card, which this stand-in refuses (`WithoutGpu`). Codes: 226601 arrears,
226602 expired, 226604 no resources, 226606 not verified, 171 wrong signature. No instance of CompShare was started for
these tests.
"""

from __future__ import annotations

import hashlib
from typing import Any

from aiohttp import web

from wakestream.adapters.power.compshare import create
from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn
from wakestream.adapters.testing.power_world import Fault
from wakestream.operators.model.ports import PowerState

_WORDS: dict[PowerState, str] = {
    "starting": "Starting", "running": "Running", "stopping": "Stopping", "stopped": "Stopped",
    "failed": "Install Fail", "unknown": "",
}  # fmt: skip
ZONE = "cn-wlcb-01"


def refusal(code: int, message: str) -> web.Response:
    return web.json_response({"RetCode": code, "Action": "Response", "Message": message})


class CompshareWorld(HttpStandIn):
    faults, addresses, name = ANY_API | {"no_capacity", "quota"}, True, "studio gpu"
    make = staticmethod(create)
    machine_id = "uhost-1qb2c3d4e5f6"
    keys = {  # noqa: RUF012
        "COMPSHARE_PUBLIC_KEY": "4eZBpublic0123456789", "COMPSHARE_PRIVATE_KEY": "4eZBprivate9876543210",
    }  # fmt: skip
    release_time = 0.0

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/", self._call)]

    def trusts(self, request: web.Request, body: Any) -> bool:
        signature = body.pop("Signature", "")
        text = "".join(f"{name}{body[name]}" for name in sorted(body)) + self.keys["COMPSHARE_PRIVATE_KEY"]
        right = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324
        return body.get("PublicKey") == self.keys["COMPSHARE_PUBLIC_KEY"] and signature == right

    def act(self, request: web.Request, body: Any) -> Act:
        acts: dict[Any, Act] = {"StartCompShareInstance": "start", "StopCompShareInstance": "stop"}
        return acts.get(body.get("Action"), "")

    def denied(self) -> web.Response:
        return refusal(171, f"Signature VerifyAC Error for {' '.join(self.secrets)}")

    def refused(self, fault: Fault) -> web.Response:
        if fault == "no_capacity":
            return refusal(226604, "Resource not enough, Please try again later")
        if fault == "quota":
            return refusal(226601, "The instance is in arrears. Please go to Order Management to pay the unpaid order.")
        return refusal(8433, "service error, please contact technical support")

    async def without_gpu(self) -> None:
        self.no_gpu = True

    async def unknown_word(self) -> None:
        self.machine.odd = "Hibernating"

    async def _call(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        if form["Action"] == "DescribeCompShareInstance":
            return self._describe(form)
        if form.get("Zone") != ZONE or form.get("Region") != "cn-wlcb":
            return refusal(220, "Missing params [Zone]")
        if form.get("UHostId") != self.machine_id or self.state == "terminated":
            return refusal(8039, "uhost not exist")
        if form["Action"] == "StartCompShareInstance":
            if form.get("WithoutGpu") != "false":
                return refusal(230, "Params [WithoutGpu] not available")
            self.start()
        else:
            self.stop()
        return web.json_response({"RetCode": 0, "Action": f"{form['Action']}Response", "UHostId": self.machine_id})

    def _describe(self, form: Any) -> web.Response:
        rows = [] if self.state == "terminated" else [self.row()]
        if "UHostIds.0" in form:
            rows = [row for row in rows if row["UHostId"] == form["UHostIds.0"]]
        answer = {"RetCode": 0, "Action": "DescribeCompShareInstanceResponse", "TotalCount": len(rows)}
        return web.json_response({**answer, "UHostSet": rows})

    def row(self) -> dict[str, Any]:
        public = {"IPMode": "IPv4", "Type": "Bgp", "IP": self.machine.address, "Weight": 50}
        private = {"IPMode": "IPv4", "Type": "Private", "IP": "10.9.8.7", "Weight": 100, "Default": "true"}
        return {
            "UHostId": self.machine_id, "Name": self.name, "Zone": ZONE, "GPU": self.machine.gpus, "GpuType": "4090",
            "State": self.machine.odd if self.machine.odd is not None else _WORDS[self.state],
            "IPSet": [private, public], "InstancePrice": 1.58, "ChargeType": "Postpay", "Password": "c2VjcmV0",
            "CreateTime": self.changed_at, "ReleaseTime": self.release_time, "WithoutGpuSpec": {"Cpu": 1, "Gpu": 0},
        }  # fmt: skip
