"""Our own depot beside a real hub: the hub asks it, and clients use it with what the hub sends them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import aiohttp
import pytest
from loguru import logger

from tests.support.log_lines import logged
from tests.support.programs.capability_scene import Caller
from tests.support.programs.client_scene import User
from tests.support.programs.depot_scene import depot_of, named, put
from tests.support.programs.here import Here
from tests.support.programs.hub_keeper import Keeper
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.depot_desk import DepotDesk
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import depot_messages as d

FILM = bytes(range(256)) * 40
FILE = d.DepotFile(name="video", blake3=named(FILM), ext=".mp4", size=len(FILM))


async def asked(hub: HubServer, ask: str, *files: d.DepotFile, owner: str = "one") -> f.DepotAnswered:
    """What the hub's decider would get."""
    answers: asyncio.Queue[f.DepotAnswered] = asyncio.Queue()
    desk = DepotDesk(hub.depot._store, answers.put_nowait, time.time)
    desk.ask(f.AskDepot(ask, owner, "j" if files else "", 0, files))  # type: ignore[arg-type]
    async with asyncio.timeout(100):
        return await answers.get()


def sent(hub: HubServer, method: str, owner: str = "one") -> d.DepotPlaces:
    """What a client of the license gets."""
    message = d.DepotPlaces(request_id="j", files=(d.DepotPlace(name="video", blake3=FILE.blake3, ext=".mp4"),))
    linked = hub.depot.with_links(message, f.Links(owner, "j", method))  # type: ignore[arg-type]
    assert isinstance(linked, d.DepotPlaces)
    return linked


async def test_the_hub_asks_its_depot_and_a_client_uses_it_with_what_the_hub_sends(place: Place) -> None:
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


async def test_a_depot_that_others_cannot_reach_is_warned_of(place: Place) -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING")
    try:
        for host, warned in (("127.0.0.1", 0), ("0.0.0.0", 1)):  # noqa: S104 - on purpose
            config = HubConfig(LicenseBook(place.folder / "hub"), host=host)
            async with open_hub(config, FakeJournal[f.Fact]()) as hub, depot_of(place, hub):
                assert sum("leads other machines to themselves" in line for line in said) == warned
    finally:
        logger.remove(sink)


async def test_a_full_or_absent_depot_has_a_word_for_it(place: Place) -> None:
    async with place.hub() as hub:
        with logged("WARNING", "{extra[job]} {extra[stage]}") as lines:
            assert (await asked(hub, "open", FILE)).code == "down"
            assert (await asked(hub, "open")).code == "down"
        assert lines == ["j hub", "- hub"]
        async with depot_of(place, hub, size=len(FILM) - 1):
            assert (await asked(hub, "open", FILE)).code == "too_large"
        await until(lambda: hub.state.depot_url is None)
        assert (await asked(hub, "open", FILE)).code == "down"


@asynccontextmanager
async def programs(keeper: Keeper, *, machine: bool = True) -> AsyncIterator[None]:
    """A hub, a depot and a machine that is off, all real programs that log and record everything."""
    key = keeper.folder / "depot.key"
    key.write_text(LicenseBook(keeper.folder).issue("depot", "", time.time())[1])
    kept = ("--record", str(keeper.folder / "record"), "--log-level", "DEBUG", "--log-file")
    async with keeper.hub(*kept, str(keeper.folder / "hub.log")):
        at = ("--listen", "127.0.0.1:0", "--state", str(keeper.folder / "depot"), "--key-file", str(key))
        async with (
            keeper.user.runs("depot", "run", *at, *kept, str(keeper.folder / "depot.log")) as depot,
            keeper.powers() if machine else nullcontext(),
        ):
            await depot.address()
            async with asyncio.timeout(100):
                while not ((await keeper.asks()).depot or {}).get("up"):  # it listens before it is at the hub
                    pass
            yield


async def test_a_job_goes_through_the_depot_and_no_log_or_recording_has_a_permission(keeper: Keeper) -> None:
    user = keeper.user
    async with programs(keeper):
        ran = await user.submit("-o", "out.mp4", "--no-probe", "--json", "--record", str(keeper.folder / "record"))
        assert ran.code == 0, ran.err
        assert {"stored", "delivered"} <= {event["event"] for event in ran.events}
        assert (user.folder / "out.mp4").read_bytes() == user.video.read_bytes() + user.audio.read_bytes()
        listed = await user.run("depot", "ls", "--json")
        files = {file["blake3"]: file["size"] for file in map(json.loads, listed.out.splitlines())}
        inputs = {named(path.read_bytes()): path.stat().st_size for path in (user.video, user.audio)}
        assert inputs.items() <= files.items()
        shown = await user.run("depot", "ls", "--lang", "zh")
        assert f"{len(files)} 个文件" in shown.out
        first, *_ = inputs
        removed = await user.run("depot", "rm", str(user.video), named(user.audio.read_bytes())[:12])
        assert (removed.code, "removed: 2" in removed.out) == (0, True), removed
        left = await user.run("depot", "ls", "--json")
        assert first not in left.out
        refused = await user.run("depot", "rm", "f" * 64)
        assert (refused.code, "is no file in the depot" in refused.err) == (2, True)
    texts = [path.read_bytes() for path in keeper.folder.rglob("*") if path.suffix in (".jsonl", ".log", ".1")]
    assert sum(b"gpu.depot.places" in text for text in texts) >= 2  # at the hub and at the client
    assert not [text for text in texts if b"eyJ" in text]


async def test_files_of_an_open_job_stay_and_rm_says_so(keeper: Keeper) -> None:
    async with programs(keeper, machine=False):
        ran = await keeper.user.submit("--no-probe", "--plain", "--leave")
        assert ran.code == 0, ran.err
        removed = await keeper.user.run("depot", "rm", str(keeper.user.video))
        assert removed.code == 1
        assert removed.out.splitlines()[:2] == [
            "removed: 0", "not removed: 1; an open job needs them, or they are results that were not fetched",
        ]  # fmt: skip
        listed = await keeper.user.run("depot", "ls")
        assert "depot: files 2" in listed.out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("hub", "--depot", "/srv/depot"), "write s3://BUCKET/PREFIX"),
        (("hub", "--depot-endpoint", "https://s3.example"), "--depot-endpoint needs --depot"),
        (("hub", "--depot", "s3://b", "--depot-endpoint", "http://s3.example"), "without TLS"),
        (("hub", "--depot-keep", "soon"), "--depot-keep: 'soon' is not a time"),
        (("hub", "--depot-quota", "much"), "--depot-quota: 'much' is not a size"),
        (("hub", "--depot-files", "0"), "--depot-files: '0' is not a whole number from 1 to 10000"),
        (("hub", "--wake-when", "never"), "invalid choice: 'never'"),
        (("depot", "run", "--size", "0GB"), "--size: '0GB' is not a size"),
        (("depot", "run", "--hub", "http://127.0.0.1:1"), "no key is set"),
        (("depot", "ls"), "no hub is set"),
    ],
)
def test_wrong_settings_are_refused_with_what_to_do(
    user: User, here: Here, tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    ran = here(user, *command, WAKESTREAM_CONFIG=str(tmp_path / "none"))
    assert (ran.code, words in ran.err) == (2, True), ran.err


async def test_a_depot_needs_an_address_for_others_and_a_key_of_its_role(keeper: Keeper) -> None:
    async with keeper.hub():
        ran = await keeper.user.run("depot", "run", "--listen", "0.0.0.0:0")
        assert (ran.code, "--public-url is missing" in ran.err) == (2, True), ran.err
        ran = await keeper.user.run("depot", "run", "--listen", "127.0.0.1:0", "--exit-on-refusal")
        assert (ran.code, "a client license does not give the role of a depot" in ran.err) == (2, True), ran.err
