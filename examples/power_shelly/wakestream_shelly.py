"""A power provider for a PC behind a Shelly socket (Gen2 RPC over HTTP), which boots when it gets power."""

from typing import Any

from wakestream.adapters.power.config import PowerConfig
from wakestream.adapters.power.http_power import HttpPower
from wakestream.operators.model.ports import Reading


class ShellyPower(HttpPower):
    name, api = "shelly", "http://127.0.0.1"  # the socket's address is --power-option base_url=...
    states = {"on": "running", "off": "stopped"}  # noqa: RUF012
    options, reports_address = (), False

    async def start(self) -> None:
        await self._call("Set", on=True)

    async def stop(self) -> None:
        await self._call("Set", on=False)

    async def inspect(self) -> Reading:
        word = "on" if (await self._call("GetStatus"))["output"] else "off"
        return Reading(self.state(word), detail=f"the socket is {word}")

    async def _call(self, method: str, **params: object) -> Any:
        return await self.call("POST", f"/rpc/Switch.{method}", body={"id": int(await self.machine()), **params})


def create(config: PowerConfig) -> ShellyPower:
    return ShellyPower(config)
