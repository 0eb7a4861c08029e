"""The power provider `runpod`: pods of Runpod, over its REST API v2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from wakestream.adapters.power.config import Machine
from wakestream.adapters.power.http_power import HttpPower, Pattern, unix_seconds
from wakestream.operators.model.errors import NoCapacity, QuotaExceeded
from wakestream.operators.model.ports import PowerState, Reading


class RunpodPower(HttpPower):
    """A pod. A stopped pod keeps its place on one host, so that a start can find no free GPU there.

    Options: `port` (the worker's port inside the pod, 8383).
    """

    name, api, options, key = "runpod", "https://api.runpod.io", ("port",), "RUNPOD_API_KEY"
    id_form = r"[a-z0-9]{10,20}"
    states: ClassVar[Mapping[str, PowerState]] = {
        **dict.fromkeys(("provisioning", "starting"), "starting"),
        "running": "running",
        "exited": "stopped",
        "error": "failed",
        "terminated": "terminated",
    }
    errors: ClassVar[Sequence[Pattern]] = (
        (r"not enough (free )?(gpus?|resources)|no longer any instances|no (gpu|instance)s? (is |are )?available"
         r"|does not have the resources|out of capacity", NoCapacity),
        (r"^402\b|balance|insufficient (funds|credit)|spend(ing)? limit|quota", QuotaExceeded),
    )  # fmt: skip

    async def start(self) -> None:
        """Start the pod, on the host where its disk is."""
        await self._act("start")

    async def stop(self) -> None:
        """Stop the pod; its volume stays, at twice the price."""
        await self._act("stop")

    async def inspect(self) -> Reading:
        """Look at the pod."""
        pod = await self.call("GET", f"/v2/pods/{await self.machine()}")
        state = self.state(str(pod["status"]))
        gpus = pod["gpu"].get("count") if pod.get("gpu") else 0 if pod.get("cpu") else None
        if state != "running":
            return Reading(state, detail=f"runpod says {pod['status']}")
        address = self._address(pod)
        detail = "runpod says RUNNING" + ("" if address else f"; the pod exposes no port {self._port}")
        return Reading(state, address, unix_seconds(pod.get("startedAt")), detail, gpus)

    async def machines(self) -> Sequence[Machine]:
        """The pods of the account."""
        return [self._listed(pod) for pod in (await self.call("GET", "/v2/pods"))["pods"]]

    async def _act(self, action: str) -> None:
        await self.call("POST", f"/v2/pods/{await self.machine()}/action", body={"action": action})

    def _listed(self, pod: Mapping[str, Any]) -> Machine:
        gpu = pod.get("gpu") or {}
        text = f"{gpu.get('count')} x {gpu.get('id')}" if gpu else ""
        state, cost = self.state(str(pod["status"])), pod.get("cost")
        return Machine(pod["id"], pod.get("name") or "", state, text, cost or None, "USD", self._address(pod))

    def _address(self, pod: Mapping[str, Any]) -> str | None:
        """The public TCP port, which is another one at each start, else the HTTP proxy, which limits uploads."""
        for port in (pod.get("runtime") or {}).get("ports") or ():
            if port.get("private") == self._port and port.get("type") == "tcp" and port.get("ip"):
                return f"{port['ip']}:{port['public']}"
        if f"{self._port}/http" in (pod.get("ports") or ()):
            return f"https://{pod['id']}-{self._port}.proxy.runpod.net"
        return None


create = RunpodPower
