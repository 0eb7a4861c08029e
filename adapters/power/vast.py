"""The power provider `vast`: instances of Vast.ai, which stay on one host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from wakestream.adapters.power.config import Machine
from wakestream.adapters.power.http_power import HttpPower, Pattern
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, QuotaExceeded, TryAgain
from wakestream.operators.model.ports import PowerState, Reading

MOST_PAGES = 40
"""Pages of the list of instances that are read."""


class VastPower(HttpPower):
    """An instance. Vast never says that there is no capacity: such a start stays in `scheduling`.

    Options: `port` (the worker's port inside the container, 8383).
    """

    name, api, options, key = "vast", "https://console.vast.ai", ("port",), "VAST_API_KEY"
    id_form = r"\d+"
    states: ClassVar[Mapping[str, PowerState]] = {
        **dict.fromkeys(("created", "loading", "scheduling", "rebooting", ""), "starting"),
        # of the container before this start; --start-within ends the wait
        **dict.fromkeys(("exited", "stopped"), "starting"),
        **dict.fromkeys(("running", "frozen"), "running"),  # a frozen one is billed like a running one
        **dict.fromkeys(("offline", "unknown"), "unknown"),
    }
    """Of an instance that is meant to run, by its `actual_status`."""
    errors: ClassVar[Sequence[Pattern]] = (
        (r"no_such_instance|no such instance|instance .*not found", Gone),
        (r"insufficient_credit|lacks? (of )?credit|insufficient (credit|balance|funds)|billing", QuotaExceeded),
        (r"resources?[ _](are |is )?(currently )?unavailable|no capacity|not enough (gpus?|resources)", NoCapacity),
        (r"too frequent", TryAgain),
        (r"auth_error|invalid (user|api)[ _-]?key|unauthorized", Denied),
    )

    async def start(self) -> None:
        """Ask for the instance to run, when its host has a free GPU."""
        await self._set("running")

    async def stop(self) -> None:
        """Stop the instance, or call off a start that is still in `scheduling`."""
        await self._set("stopped")

    async def inspect(self) -> Reading:
        """Look at the instance."""
        path = f"/api/v0/instances/{await self.machine()}/"
        row = (await self.call("GET", path, params={"owner": "me"})).get("instances")
        if row is None:
            raise Gone(f"{self.name}: there is no instance {await self.machine()}; it was destroyed")
        state = self._state(row)
        words = f"actual_status {row.get('actual_status')}, intended_status {row.get('intended_status')}"
        detail = f"vast says {words}" + (f": {self.plain(str(row['status_msg']))}" if row.get("status_msg") else "")
        if state != "running":
            return Reading(state, detail=detail)
        address = self._address(row)
        detail += "" if address else f"; the instance publishes no port {self._port}"
        return Reading(state, address, detail=detail, gpus=row.get("num_gpus"))

    async def machines(self) -> Sequence[Machine]:
        """The instances of the account."""
        machines: list[Machine] = []
        params = {"limit": "25", "select_filters": "{}", "order_by": json.dumps([{"col": "id", "dir": "asc"}])}
        for _ in range(MOST_PAGES):
            page = await self.call("GET", "/api/v1/instances/", params=params)
            machines += [self._listed(row) for row in page.get("instances") or ()]
            if not page.get("next_token"):
                break
            params["after_token"] = str(page["next_token"])
        return machines

    async def _set(self, state: str) -> None:
        path = f"/api/v0/instances/{await self.machine()}/"
        answer = await self.call("PUT", path, body={"state": state})
        if not answer.get("success"):  # errors come as HTTP 200 too
            raise self.error(*self.message(answer))

    def _state(self, row: Mapping[str, Any]) -> PowerState:
        actual, intended = row.get("actual_status") or "", row.get("intended_status") or ""
        if row.get("cur_state") == "unloaded" or actual == "destroyed":
            return "terminated"
        if intended == "stopped":
            return "stopping" if actual == "running" else "stopped"
        return self.state(actual)

    def _listed(self, row: Mapping[str, Any]) -> Machine:
        gpu = f"{row.get('num_gpus')} x {row.get('gpu_name')}" if row.get("gpu_name") else ""
        name, price = row.get("label") or "", row.get("dph_total")
        return Machine(str(row["id"]), name, self._state(row), gpu, price, "USD", self._address(row))

    def _address(self, row: Mapping[str, Any]) -> str | None:
        ports = row.get("ports")
        mapped = ports.get(f"{self._port}/tcp") if isinstance(ports, Mapping) else None
        if not mapped or not row.get("public_ipaddr"):
            return None
        return f"{str(row['public_ipaddr']).strip()}:{mapped[0]['HostPort']}"


create = VastPower
