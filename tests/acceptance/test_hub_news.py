"""`client.link.events` at a real hub: who comes late knows how the GPU is."""

import asyncio
from typing import Any

from tests.support.programs.our_peers import Place
from wakestream import LinkUp, PowerState, Settings, of_type, open_client
from wakestream.adapters.net.hub_link import Link
from wakestream.streams.protocol import messages as m


async def test_a_late_client_and_a_late_subscriber_get_the_current_state(place: Place) -> None:
    register = m.Register(token=place.keys["monitor"], role="gpu_monitor", gpus=("studio",), features=("power_state",))
    async with place.hub():
        monitor = Link(place.hub_url, lambda: register)
        try:
            up = asyncio.Event()
            monitor.events.pipe(of_type(LinkUp)).subscribe(lambda _: up.set())
            await up.wait()
            monitor.send(m.PowerState(gpu="studio", state="starting"))
            settings = Settings(hub_url=place.hub_url, key=place.keys["client"], api_secret="a-secret-of-the-worker")
            async with open_client(settings) as client:
                known: asyncio.Future[PowerState] = asyncio.get_running_loop().create_future()
                early = client.link.events.pipe(of_type(PowerState)).subscribe(known.set_result)
                assert await known == PowerState(gpu="studio", state="starting", present=True)
                early.dispose()
                late: list[Any] = []
                client.link.events.subscribe(late.append)
                assert [type(event) for event in late] == [LinkUp, PowerState]
        finally:
            await monitor.close()
