"""Our hub among deployed peers: what each mix of parts does, with peers that behave as the field's do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hub_scene import Place

from tests.support.field.monitor import FieldCloud, MonitorTimes, field_monitor
from tests.support.field.phone import field_phone
from wakestream.streams.hub import Limits

QUICK = MonitorTimes().scaled(0.001)
OPEN = Limits(open_roles=frozenset({"worker", "monitor"}))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with asyncio.timeout(50), contextlib.AsyncExitStack() as stack:
        yield Place(tmp_path, stack)


async def test_a_phone_boots_a_gpu_that_a_deployed_monitor_starts_by_our_hub(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    cloud = FieldCloud()
    async with field_monitor(hub.url, cloud, times=QUICK), field_phone(hub.url, place.keys["client"]) as phone:
        asked = await phone.boot()
        await phone.heard.wait("gpu.power.booted", request_id=asked)
        assert cloud.starts == 1


async def test_a_deployed_monitor_switches_the_machine_off_when_our_hub_says_that_nobody_works(place: Place) -> None:
    hub = await place.hub(limits=OPEN)
    cloud = FieldCloud("running")
    async with field_monitor(hub.url, cloud, times=QUICK) as monitor:
        await monitor.heard.wait("gpu.task.query.response", active_count=0)
        await asyncio.wait_for(cloud.stopped.wait(), 20)
