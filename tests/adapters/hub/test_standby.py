"""What a hub answers while it does not lead."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.ports import free_port
from wakestream.adapters.hub import standby
from wakestream.adapters.hub.config import HubConfig, Leadership
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.hub.standby import Standby, until_leading
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model.errors import JournalError
from wakestream.streams.hub import events as f


async def test_a_hub_that_lost_its_lead_answers_503_while_it_reads_all_jobs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, read, stop = threading.Event(), threading.Event(), asyncio.Event()

    def step(_: Standby) -> None:
        begun.set()
        read.wait()

    monkeypatch.setattr(Standby, "step", step)
    config = HubConfig(LicenseBook(tmp_path), port=free_port())
    config.leadership.leader = "this one, before"
    waiting = asyncio.create_task(until_leading(config, stop, again=True))
    try:
        await asyncio.to_thread(begun.wait)
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{config.port}/dsp")
    finally:
        stop.set()
        read.set()
        assert await waiting is None
    response = caught.value.response
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.body == b"this hub stands by and reads the journal: try again in 1 s\n"


async def test_a_hub_that_cannot_use_its_database_says_so_and_names_no_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, stop = HubConfig(LicenseBook(tmp_path), port=free_port()), asyncio.Event()
    role, tries = config.leadership, 0

    def step(_: Standby) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            role.leader = "another one"  # as it was read before
            raise JournalError("the session ended")
        said.append(f"{role.leader}: {role.standing_by}")
        again.set()

    again, said = threading.Event(), list[str]()
    monkeypatch.setattr(Standby, "step", step)
    monkeypatch.setattr(standby, "AGAIN", 0.0)
    waiting = asyncio.create_task(until_leading(config, stop, again=True))
    await asyncio.to_thread(again.wait)
    stop.set()
    assert await waiting is None
    assert said == [": this hub stands by, because it cannot use its database; see its log"]
    assert not role.cut_off


async def test_a_leader_that_is_not_sure_any_more_answers_503_without_its_page_and_name_and_cuts_who_is_connected(
    tmp_path: Path,
) -> None:
    config = HubConfig(LicenseBook(tmp_path), leadership=Leadership(cluster="c", leader="this one"))
    async with open_hub(config, FakeJournal[f.Fact]()) as hub, connect(hub.url) as link:
        config.leadership.sure = lambda: False
        for url in (hub.url, hub.url.removesuffix("dsp")):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url)
            response = caught.value.response
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            assert "Wakestream-Leader" not in response.headers
            assert response.body == b"this hub stands by and reads the journal: try again in 1 s\n"
        with pytest.raises(ConnectionClosed):
            await (await link.ping())
        assert link.close_code == 1006


@pytest.mark.skipif(os.name != "posix", reason="the loop of Windows takes a socket only once")
async def test_a_caller_that_comes_between_two_terms_waits_and_is_not_refused(tmp_path: Path) -> None:
    config = HubConfig(LicenseBook(tmp_path), leadership=Leadership(kept=[]))
    async with open_hub(config, FakeJournal[f.Fact]()) as before:
        pass
    reader, writer = await asyncio.open_connection("127.0.0.1", before.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
    async with open_hub(config, FakeJournal[f.Fact]()) as after:
        assert after.url == before.url
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
    assert config.leadership.kept
    config.leadership.kept.pop().close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", before.port)
