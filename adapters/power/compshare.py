"""The power provider `compshare`: instances of CompShare (UCloud, 优云智算)."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from loguru import logger

from wakestream.adapters.power.config import Machine, PowerConfig
from wakestream.adapters.power.http_power import HttpPower, Pattern
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, QuotaExceeded, Transient
from wakestream.operators.model.ports import PowerState, Reading

NO_CAPACITY = "226604,8903,8442,8443,8445,8905,230"
"""Codes that count as no capacity: 226604 is documented, the others were seen and are not documented."""

SOON = 3 * 86_400.0
"""Seconds before the release of a machine from which on there are warnings."""

_PAGE = 100
MOST_PAGES = 20


class CompsharePower(HttpPower):
    """An instance. A start can be accepted and yet not happen: only `inspect` shows the result.

    Options: `port` (the worker's, 8383), `zone`, `region`, `project` (sub-accounts need it), and `no_capacity` (codes
    that count as no capacity, with commas).
    """

    name, api = "compshare", "https://api.compshare.cn"
    options = ("port", "zone", "region", "project", "no_capacity")
    id_form = r"uhost-\w+"
    states: ClassVar[Mapping[str, PowerState]] = {
        **dict.fromkeys(("initializing", "starting", "rebooting", "resizing"), "starting"),
        "running": "running",
        "stopping": "stopping",
        "stopped": "stopped",
        "install fail": "failed",
    }
    errors: ClassVar[Sequence[Pattern]] = (
        (r"^(226601|226602)\b|arrears|expired|欠费|已过期|余额", QuotaExceeded),
        (r"^226606\b|^(17[0-5]|29[239])\b|signature|publickey|permission|实名", Denied),
        (r"resource not enough|资源不足|sold out|售罄|库存", NoCapacity),
        (r"uhost.*not (exist|found)|不存在", Gone),
    )

    def __init__(self, config: PowerConfig) -> None:
        super().__init__(config)
        options = config.options
        self._zone, self._region = options.get("zone"), options.get("region")
        self._project = options.get("project")
        self._no_capacity = {code.strip() for code in options.get("no_capacity", NO_CAPACITY).split(",")}
        self._public, self._private = self.secret("COMPSHARE_PUBLIC_KEY"), self.secret("COMPSHARE_PRIVATE_KEY")
        self._warned = False

    async def start(self) -> None:
        """Start the instance with its GPU."""
        await self._act("StartCompShareInstance", WithoutGpu="false")

    async def stop(self) -> None:
        """Stop the instance."""
        await self._act("StopCompShareInstance")

    async def inspect(self) -> Reading:
        """Look at the instance."""
        row = await self._row()
        word = str(row.get("State") or "")
        detail = f"compshare says {word}" if word else "compshare says nothing: it could not get the state in time"
        state = self.state(word) if word else "unknown"
        detail += self._release(row)
        if state != "running":
            return Reading(state, detail=detail)
        return Reading(state, self._address(row), detail=detail, gpus=row.get("GPU"))

    async def machines(self) -> Sequence[Machine]:
        """The instances of the account."""
        machines: list[Machine] = []
        for page in range(MOST_PAGES):
            answer = await self._signed("DescribeCompShareInstance", Limit=str(_PAGE), Offset=str(page * _PAGE))
            machines += [self._listed(row) for row in answer.get("UHostSet") or ()]
            if len(machines) >= int(answer.get("TotalCount") or 0):
                break
        return machines

    async def _row(self) -> Mapping[str, Any]:
        id_ = await self.machine()
        answer = await self._signed("DescribeCompShareInstance", **{"UHostIds.0": id_})
        rows = answer.get("UHostSet")
        if rows is None:
            raise Transient(f"{self.name}: the answer to DescribeCompShareInstance has no UHostSet")
        row = next((row for row in rows if row.get("UHostId") == id_), None)
        if row is None:
            raise Gone(f"{self.name}: there is no instance {id_} in this account and project; it was deleted")
        self._zone = self._zone or row.get("Zone")
        return row  # type: ignore[no-any-return]

    async def _act(self, action: str, **more: str) -> None:
        if not self._zone:
            await self._row()
        await self._signed(action, UHostId=await self.machine(), **more)

    async def _signed(self, action: str, **more: str) -> Mapping[str, Any]:
        region = self._region or re.sub(r"-\d+$", "", self._zone or "")
        given = {"Region": region, "Zone": self._zone, "ProjectId": self._project}
        params = {"Action": action, "PublicKey": self._public, **more}
        params |= {name: value for name, value in given.items() if value}
        params["Signature"] = signature(params, self._private)
        answer = await self.call("POST", f"/?Action={action}", form=params)
        if not isinstance(answer, Mapping) or answer.get("RetCode") != 0:
            code, message = self.message(answer)
            logger.warning("{}: RetCode {}: {}", self.name, code, self.plain(message))
            if str(code) in self._no_capacity:
                raise NoCapacity(f"{self.name}: {code}: {self.plain(message)}")
            raise self.error(code, message)
        return answer

    def headers(self) -> Mapping[str, str]:
        """The time of the request, as the official SDK sends it."""
        return {"U-Timestamp-Ms": str(int(time.time() * 1000))}

    def _release(self, row: Mapping[str, Any]) -> str:
        """A warning of the time at which the machine is deleted, if that is near."""
        at = row.get("ReleaseTime") or 0
        if not at or at - time.time() > SOON:
            return ""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
        if not self._warned:
            self._warned = True
            logger.warning(
                "{}: the machine {} is released on {}; its data will be lost", self.name, self._machine, when
            )
        return f"; it is released on {when}"

    def _listed(self, row: Mapping[str, Any]) -> Machine:
        state = self.state(str(row.get("State"))) if row.get("State") else "unknown"
        gpu = f"{row.get('GPU')} x {row.get('GpuType')}" if row.get("GpuType") else ""
        return Machine(
            row["UHostId"], row.get("Name") or "", state, gpu, row.get("InstancePrice") or None, "CNY",
            self._address(row),
        )  # fmt: skip

    def _address(self, row: Mapping[str, Any]) -> str | None:
        """The public address of most weight."""
        public = [ip for ip in row.get("IPSet") or () if ip.get("IP") and ip.get("Type") != "Private"]
        best = max(public, key=lambda ip: ip.get("Weight") or 0, default=None)
        return f"{best['IP']}:{self._port}" if best is not None else None


def signature(params: Mapping[str, str], private_key: str) -> str:
    """Sign a request as the API wants it."""
    text = "".join(f"{name}{params[name]}" for name in sorted(params)) + private_key
    return hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - the API's own


create = CompsharePower
