"""A stand-in for the API "容器实例Pro" of AutoDL.

It copies www.autodl.com/docs/instance_pro_api and common_api: the token in `Authorization` without `Bearer`, answers
`{"code", "msg", "data", "request_id"}` with HTTP 200 also for errors, `power_on` with `payload: "gpu"` only, `list` in
pages. What the documents do not say was reported by users who called it (September 2026, in public repositories that
cite these pages): the two GET calls take `instance_uuid` in the query and refuse a body with
`RequestParameterIsWrong`, the state between is `shutting_down`, an unknown instance is `RecordNotFoundError`, an
account without a verified name `TORealName`, no stock `InternalError` with "当前算力规格暂无库存". Only instances
whose id begins with `pro-` are found, and `snapshot` has the passwords of the machine. No instance of AutoDL was
started for these tests.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from wakestream.adapters.power.autodl import create
from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn
from wakestream.adapters.testing.power_world import Fault
from wakestream.operators.model.ports import PowerState

_WORDS: dict[PowerState, str] = {
    "starting": "starting", "running": "running", "stopping": "shutting_down", "stopped": "shutdown",
    "failed": "abnormal",
}  # fmt: skip
ROOT_PASSWORD = "jbeOXgTWUxq+"


def answer(data: Any = None, code: str = "Success", msg: str = "") -> web.Response:
    return web.json_response({"code": code, "data": data, "msg": msg, "request_id": "r-1"})


class AutodlWorld(HttpStandIn):
    faults, addresses, name = ANY_API | {"no_capacity", "quota"}, True, "studio gpu"
    make = staticmethod(create)
    machine_id = "pro-76576c61fdf1"
    keys = {"AUTODL_TOKEN": "eyJhbGciOiJFUzI1NiJ9.abcdefgh.ijklmnop"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.secrets = (*self.secrets, ROOT_PASSWORD)
        self.machine.address = "u1-abc.westb.seetacloud.example"

    async def move(self) -> None:
        self.machine.address = "u1-xyz.westc.seetacloud.example"

    def routes(self) -> list[web.RouteDef]:
        base = "/api/v1/dev/instance/pro"
        return [
            web.get(f"{base}/status", self._status), web.get(f"{base}/snapshot", self._snapshot),
            web.post(f"{base}/list", self._list), web.post(f"{base}/power_on", self._on),
            web.post(f"{base}/power_off", self._off),
        ]  # fmt: skip

    def trusts(self, request: web.Request, body: Any) -> bool:
        return request.headers.get("Authorization") == self.keys["AUTODL_TOKEN"]

    def act(self, request: web.Request, body: Any) -> Act:
        return "start" if request.path.endswith("/power_on") else "stop" if request.path.endswith("/power_off") else ""

    def denied(self) -> web.Response:
        return answer(code="AuthorizeFailed", msg=f"登录超时 {self.keys['AUTODL_TOKEN']}")

    def refused(self, fault: Fault) -> web.Response:
        code, msg = {
            "no_capacity": ("InternalError", "当前算力规格暂无库存, 请修改配置或稍等再试"),
            "quota": ("BalanceNotEnough", "账户余额不足"),
        }.get(fault, ("InternalError", "E7731"))
        return answer(code=code, msg=msg)

    async def unknown_word(self) -> None:
        self.machine.odd = "hibernating"

    def _unknown(self, request: web.Request, id_: str | None) -> web.Response | None:
        if request.method == "GET" and request.can_read_body:
            return answer(code="RequestParameterIsWrong", msg="请求参数错误")
        if id_ != self.machine_id or self.state == "terminated":
            return answer(code="RecordNotFoundError", msg="记录不存在")
        return None

    async def _status(self, request: web.Request) -> web.Response:
        refusal = self._unknown(request, request.query.get("instance_uuid"))
        return refusal or answer(self.machine.odd or _WORDS[self.state])

    async def _snapshot(self, request: web.Request) -> web.Response:
        refusal = self._unknown(request, request.query.get("instance_uuid"))
        return refusal or answer(
            {
                "root_password": ROOT_PASSWORD,
                "proxy_host": "connect.example",
                "ssh_port": 34222,
                "service_6006_domain": self.machine.address,
                "service_6006_port": 8443,
                "cg_application_info": {},
            }
        )

    async def _list(self, request: web.Request) -> web.Response:
        page = (await request.json())["page_index"]
        row = {"uuid": self.machine_id, "instance_name": self.name} if page == 2 else {"uuid": "pro-000000000000"}
        word = _WORDS[self.state] if page == 2 else "running"
        more = {"status": word, "req_gpu_amount": 1, "gpu_spec_uuid": "v-48g", "payg_price": 1970}
        return answer({"list": [{**row, **more}], "page_index": page, "max_page": 2, "result_total": 2})

    async def _on(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("payload") != "gpu":
            return answer(code="RequestParameterIsWrong", msg="请求参数错误")
        refusal = self._unknown(request, body.get("instance_uuid"))
        if refusal is None:
            self.start()
        return refusal or answer()

    async def _off(self, request: web.Request) -> web.Response:
        refusal = self._unknown(request, (await request.json()).get("instance_uuid"))
        if refusal is None:
            self.stop()
        return refusal or answer()
