"""Our own depot beside a real hub: the hub asks it, and clients use it with what the hub sends them."""

import asyncio
import time

from tests.support.programs.capability_scene import Caller
from tests.support.programs.depot_scene import depot_of, named, put
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.hub.depot_desk import DepotDesk
from wakestream.adapters.hub.server import HubServer
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import depot_messages as d

FILM = bytes(range(256)) * 40
FILE = d.DepotFile(name="video", blake3=named(FILM), ext=".mp4", size=len(FILM))


async def asked(hub: HubServer, ask: str, *files: d.DepotFile, owner: str = "one") -> f.DepotAnswered:
    """What the hub's decider would get."""
    answers: asyncio.Queue[f.DepotAnswered] = asyncio.Queue()
    desk = DepotDesk(hub.depot._store, answers.put_nowait, time.time)
    desk.ask(f.AskDepot(ask, owner, "j", 0, files))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        return await answers.get()


def sent(hub: HubServer, method: str, owner: str = "one") -> d.DepotPlaces:
    """What a client of the license gets."""
    message = d.DepotPlaces(request_id="j", files=(d.DepotPlace(name="video", blake3=FILE.blake3, ext=".mp4"),))
    linked = hub.depot.with_links(message, f.Links(owner, "j", method))  # type: ignore[arg-type]
    assert isinstance(linked, d.DepotPlaces)
    return linked


async def test_the_hub_asks_its_depot_and_a_client_uses_it_with_what_the_hub_sends(place: Place) -> None:
    import aiohttp

    async with place.hub() as hub, depot_of(place, hub) as depot, aiohttp.ClientSession() as session:
        assert (await asked(hub, "open", FILE)).have == {}
        places = sent(hub, "put")
        assert places.depot == depot.address
        assert places.expires is not None
        client = Caller(session, depot.address, places.capability)
        assert await put(client, FILM) == 200
        assert (await asked(hub, "check", FILE)).have == {FILE.blake3: len(FILM)}
        assert (await asked(hub, "check", FILE, owner="two")).have == {}
        got = Caller(session, depot.address, sent(hub, "get").capability)
        assert (await got("GET", f"file?hash={FILE.blake3}&ext=.mp4"))[1]["bytes"] == FILM
        assert (await asked(hub, "remove", FILE)).code == ""
        assert (await asked(hub, "check", FILE)).have == {}


async def test_a_full_or_absent_depot_has_a_word_for_it(place: Place) -> None:
    async with place.hub() as hub:
        assert (await asked(hub, "open", FILE)).code == "down"
        async with depot_of(place, hub, size=len(FILM) - 1):
            assert (await asked(hub, "open", FILE)).code == "too_large"
        await until(lambda: hub.state.depot_url is None)
        assert (await asked(hub, "open", FILE)).code == "down"
