"""The shipped cases for power providers find providers with one fault each, and say what is wrong and what to do."""

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from aiohttp import web

from wakestream.adapters.power.config import Machine, PowerConfig
from wakestream.adapters.power.http_power import HttpPower
from wakestream.adapters.testing.http_stand_in import ANY_API, Act, HttpStandIn, serving
from wakestream.adapters.testing.power_suite import PowerConformance
from wakestream.adapters.testing.power_watch import calling
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, PowerError, QuotaExceeded
from wakestream.operators.model.ports import Reading


class Acme(HttpPower):
    """A provider without a fault, for an API that exists only here."""

    name, api, key, id_form = "acme", "https://acme.example", "ACME_KEY", r"m-\d+"
    states: ClassVar[Any] = {"on": "running", "off": "stopped", "booting": "starting", "halting": "stopping"}
    errors: ClassVar[Any] = (("sold out", NoCapacity), ("credit", QuotaExceeded))

    async def start(self) -> Any:
        await self.call("POST", f"/machines/{await self.machine()}/start")

    async def stop(self) -> Any:
        await self.call("POST", f"/machines/{await self.machine()}/stop")

    async def inspect(self) -> Any:
        row = await self.row()
        on = row["state"] == "on"
        return Reading(self.state(row["state"]), row["address"] if on else None, self.since(row), gpus=row["gpus"])

    async def machines(self) -> list[Machine]:
        rows = (await self.call("GET", "/machines"))["machines"]
        return [Machine(row["id"], row["name"], self.state(row["state"])) for row in rows]

    async def row(self) -> Any:
        return await self.call("GET", f"/machines/{await self.machine()}")

    def since(self, row: Any) -> float:
        return float(row["changed"])


class AcmeStandIn(HttpStandIn):
    make: ClassVar[Any] = staticmethod(Acme)
    machine_id, name, addresses = "m-1", "studio", True
    keys: ClassVar[Any] = {"ACME_KEY": "k-0123456789"}
    faults = ANY_API | {"no_capacity", "quota"}
    refusals: ClassVar[Any] = {
        **HttpStandIn.refusals, "no_capacity": (409, "sold out"), "quota": (402, "no credit is left"),
    }  # fmt: skip

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/machines", self.listed), web.get("/machines/{id}", self.described),
            web.post("/machines/{id}/{act}", self.switched),
        ]  # fmt: skip

    def act(self, request: web.Request, body: Any) -> Act:
        return request.match_info.get("act", "")  # type: ignore[return-value]

    async def unknown_word(self) -> None:
        self.machine.odd = "dreaming"

    async def without_gpu(self) -> None:
        self.no_gpu = True

    def row(self) -> dict[str, Any]:
        words = {"running": "on", "stopped": "off", "starting": "booting", "stopping": "halting"}
        word = self.machine.odd or words.get(self.state, "on")
        return {
            "id": self.machine_id, "name": self.name, "state": word, "gpus": self.machine.gpus,
            "changed": self.changed_at, "created": self.changed_at - 365 * 86_400.0, "address": self.machine.address,
        }  # fmt: skip

    async def listed(self, _: web.Request) -> web.Response:
        return web.json_response({"machines": [] if self.state == "terminated" else [self.row()]})

    def here(self, request: web.Request) -> bool:
        return self.state != "terminated" and request.match_info["id"] == self.machine_id

    async def described(self, request: web.Request) -> web.Response:
        return web.json_response(
            self.row() if self.here(request) else {"message": "not found"}, status=200 if self.here(request) else 404
        )

    async def switched(self, request: web.Request) -> web.Response:
        if not self.here(request):
            return web.json_response({"message": "not found"}, status=404)
        self.start() if self.act(request, None) == "start" else self.stop()
        return web.json_response({"state": "on"})


class TestAcme(PowerConformance):
    @pytest.fixture
    async def world(self) -> Any:
        async with serving(AcmeStandIn()) as world:
            yield world


# --- providers with one fault each


class SwallowsInStart(Acme):
    async def start(self) -> None:
        with suppress(Denied):
            await super().start()


class SwallowsInStop(Acme):
    async def stop(self) -> None:
        with suppress(PowerError):
            await super().stop()


class WrongYear(Acme):
    def since(self, row: Any) -> float:
        return float(row["created"])


class Blocks(Acme):
    async def inspect(self) -> Any:
        time.sleep(0.5)  # noqa: ASYNC251 - its fault
        return await super().inspect()


class Computes(Acme):
    async def inspect(self) -> Any:
        until = time.thread_time() + 0.6
        while time.thread_time() < until:
            pass
        return await super().inspect()


class Remembers(Acme):
    looks, read = 0, None

    async def inspect(self) -> Any:
        self.looks += 1
        if self.looks % 2:
            self.read = await super().inspect()
        return self.read


class ChecksItself(Acme):
    async def start(self) -> None:
        await super().start()
        if (await self.inspect()).state == "stopped":
            raise PowerError("acme: the start had no effect")


class OneMissIsDeleted(Acme):
    async def inspect(self) -> Any:
        try:
            return await super().inspect()
        except Gone:
            return Reading("terminated")


class KeepsTheId(Acme):
    async def machine(self) -> str:
        self._named = False
        return await super().machine()


class ReturnsTheAnswer(Acme):
    async def start(self) -> Any:
        return await self.call("POST", f"/machines/{await self.machine()}/start")


class ReturnsAWord(Acme):
    async def inspect(self) -> Any:
        return (await super().inspect()).state


class RaisesItsOwn(Acme):
    async def stop(self) -> None:
        raise LookupError("no handler for this")


S = PowerConformance()
BAD: list[tuple[type[Acme], Any, tuple[Any, ...], str]] = [
    (SwallowsInStart, S.test_an_error_comes_out_of_start_and_stop, ("start", "own denied"), "`start` returned"),
    (SwallowsInStart, S.test_an_error_comes_out_of_start_and_stop, ("start", "denied"), "would not hear why"),
    (SwallowsInStop, S.test_an_error_comes_out_of_start_and_stop, ("stop", "own broken"), "while it runs and costs"),
    (WrongYear, S.test_since_is_when_the_machine_came_into_its_state, ("running",), "31536000 s ago: give the UNIX"),
    (Blocks, S.test_a_machine_that_runs_already_is_not_started, (), "`inspect` blocked the event loop"),
    (Remembers, S.test_a_look_shows_what_the_last_call_did, (), "ask the API at each call, and keep no answer"),
    (ChecksItself, S.test_a_start_that_is_described_late_is_one_start, (), "return when the API has accepted it"),
    (OneMissIsDeleted, S.test_a_machine_that_is_not_found_once_is_looked_for_again, (), "Raise Gone for such"),
    (KeepsTheId, S.test_a_machine_that_was_made_again_under_its_name_is_found, (), "Look the name up again"),
    (ReturnsTheAnswer, S.test_a_cold_start_is_one_start, (), "`start` of the power provider returned"),
    (ReturnsAWord, S.test_a_machine_that_runs_already_is_not_started, (), "returned 'running': return a Reading"),
    (RaisesItsOwn, S.test_an_idle_machine_is_stopped, (), "`stop` raised LookupError"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "case", "arguments", "sentence"), BAD, ids=lambda value: getattr(value, "__name__", None)
)
async def test_a_provider_with_a_fault_is_found(
    kind: Callable[[PowerConfig], Acme], case: Callable[..., Awaitable[None]], arguments: tuple[Any, ...], sentence: str
) -> None:
    class World(AcmeStandIn):
        make: ClassVar[Any] = staticmethod(kind)
        within = 5.0

    async with serving(World()) as world:
        with pytest.raises(AssertionError) as caught:
            await case(world, *arguments)
    assert sentence in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a thread sleeps")
async def test_a_step_that_computes_does_not_keep_the_loop_asleep() -> None:
    class World(AcmeStandIn):
        make: ClassVar[Any] = Computes
        within = 60.0

    async with serving(World()) as world, calling(world) as power:
        await power.inspect()
