"""How a stop of a server goes on when a call fails, or when the server was needed again."""

from __future__ import annotations

from typing import Any

import pytest

from wakestream.adapters.power import redfish
from wakestream.adapters.power.config import PowerConfig
from wakestream.operators.model.errors import PowerError, Transient


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Controller:
    """A system that is on, and what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.asked = Clock(), list[str]()
        self.fails: PowerError | None = None
        monkeypatch.setattr(redfish.time, "monotonic", self.clock.monotonic)
        options = {"grace": "2min"}
        secret = {"REDFISH_USER": "admin", "REDFISH_PASSWORD": "a-password"}.__getitem__
        self.power = redfish.create(PowerConfig("1", options, secret, base_url="https://bmc.example"))
        monkeypatch.setattr(self.power, "_system", self._system)
        monkeypatch.setattr(self.power, "_reset", self._reset)

    async def _system(self) -> dict[str, Any]:
        return {"PowerState": "On"}

    async def _reset(self, system: Any, *kinds: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.asked.append(kinds[0])

    async def stop_after(self, seconds: float) -> None:
        self.clock.now += seconds
        await self.power.stop()


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Controller:
    return Controller(monkeypatch)


async def test_a_repeated_stop_cuts_the_power_after_the_grace(controller: Controller) -> None:
    for seconds in (0, 60, 61):
        await controller.stop_after(seconds)
    assert controller.asked == ["GracefulShutdown", "ForceOff"]


async def test_the_grace_begins_when_the_shutdown_was_really_asked_for(controller: Controller) -> None:
    controller.fails = Transient("the controller is busy")
    with pytest.raises(Transient):
        await controller.stop_after(0)
    controller.fails = None
    await controller.stop_after(130)
    assert controller.asked == ["GracefulShutdown"]


async def test_the_next_stop_hours_later_begins_with_a_shutdown_again(controller: Controller) -> None:
    await controller.stop_after(0)
    await controller.stop_after(3 * 3600.0)
    assert controller.asked == ["GracefulShutdown", "GracefulShutdown"]
