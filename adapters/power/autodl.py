"""The power provider `autodl`: instances of the kind Pro of AutoDL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.config import Machine, PowerConfig
from wakestream.adapters.power.http_power import HttpPower, Pattern
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, PowerError, QuotaExceeded, Transient
from wakestream.operators.model.ports import PowerState, Reading

_BASE = "/api/v1/dev/instance/pro"
PORTS = ("6006", "6008")
"""The ports that AutoDL can publish."""
MOST_PAGES = 20


class AutodlPower(HttpPower):
    """An instance Pro. One that is off for 15 days is released, with its data.

    Options: `port` (6006 or 6008, on which the worker must listen).
    """

    name, api = "autodl", "https://api.autodl.com"
    id_form = r"pro-[0-9a-z]+"
    states: ClassVar[Mapping[str, PowerState]] = {
        **dict.fromkeys(("creating", "starting", "restarting"), "starting"),
        "running": "running",
        **dict.fromkeys(("stopping", "shutting_down"), "stopping"),
        **dict.fromkeys(("shutdown", "stopped"), "stopped"),
        **dict.fromkeys(("releasing", "released"), "terminated"),
        **dict.fromkeys(("error", "abnormal"), "failed"),
    }
    errors: ClassVar[Sequence[Pattern]] = (
        (r"RecordNotFound|不存在|已释放", Gone),
        (r"TORealName|实名|Authorize|Unauthorized|登录|鉴权|token", Denied),
        (r"库存|空闲GPU|资源不足|GPU(数量)?不足|no stock", NoCapacity),
        (r"余额|欠费|balance|arrears", QuotaExceeded),
    )

    def __init__(self, config: PowerConfig) -> None:
        super().__init__(config)
        port = config.known(self.name, ("port",)).get("port", PORTS[0])
        if port not in PORTS:
            raise SettingsError(f"--power-option port={port[:40]}: AutoDL publishes only {' and '.join(PORTS)}")
        self._port, self._token = int(port), self.secret("AUTODL_TOKEN")
        self._address: str | None = None

    def headers(self) -> Mapping[str, str]:
        """The developer token, without `Bearer`."""
        return {"Authorization": self._token}

    async def machine(self) -> str:
        """The instance's id."""
        try:
            return await super().machine()
        except (Denied, Transient):
            raise
        except PowerError as error:
            raise PowerError(f"{error}; only instances of the kind Pro (pro-...) can be switched by the API") from None

    async def start(self) -> None:
        """Start the instance with its GPU."""
        await self._data("POST", "power_on", body={"instance_uuid": await self.machine(), "payload": "gpu"})

    async def stop(self) -> None:
        """Stop the instance."""
        await self._data("POST", "power_off", body={"instance_uuid": await self.machine()})

    async def inspect(self) -> Reading:
        """Look at the instance."""
        # In the query, although the documents show a body: with one, the API answers RequestParameterIsWrong.
        which = {"instance_uuid": await self.machine()}
        word = await self._data("GET", "status", params=which)
        state = self.state(str(word))
        if state != "running":
            self._address = None
        elif self._address is None:
            self._address = self._published(await self._data("GET", "snapshot", params=which))
        return Reading(state, self._address, detail=f"autodl says {self.plain(str(word))}")

    async def machines(self) -> Sequence[Machine]:
        """The instances Pro of the account."""
        machines: list[Machine] = []
        for page in range(1, MOST_PAGES + 1):
            data = await self._data("POST", "list", body={"page_index": page, "page_size": 100}) or {}
            machines += [self._listed(row) for row in data.get("list") or ()]
            if page >= int(data.get("max_page") or 1):
                break
        return machines

    async def _data(self, method: str, name: str, **more: Any) -> Any:
        answer = await self.call(method, f"{_BASE}/{name}", **more)
        if not isinstance(answer, Mapping) or answer.get("code") != "Success":
            raise self.error(*self.message(answer))
        return answer.get("data")

    def _published(self, snapshot: Any) -> str | None:
        """The public address of the port. The snapshot also has passwords, which go nowhere."""
        domain = (snapshot or {}).get(f"service_{self._port}_domain")
        if not domain:
            return None
        port = snapshot.get(f"service_{self._port}_port")
        return str(domain) if "://" in str(domain) else f"https://{domain}:{port or 443}"

    def _listed(self, row: Mapping[str, Any]) -> Machine:
        gpu, price = row.get("gpu_spec_uuid") or "", row.get("payg_price")
        text = f"{row.get('req_gpu_amount')} x {gpu}" if gpu else ""
        name = row.get("instance_name") or row.get("name") or ""
        hourly = price / 1000 if price else None
        return Machine(row["uuid"], name, self.state(str(row["status"])), text, hourly, "CNY" if hourly else "")


create = AutodlPower
