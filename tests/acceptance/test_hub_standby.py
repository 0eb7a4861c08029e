"""Two real hubs on one real PostgreSQL: what the first one said is still so when the second one leads."""

import asyncio
import re
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from tests.support.faults.fault_proxy import Fault, fault_proxy
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.programs.cluster_scene import SUBMIT, Cluster, has_jobs
from tests.support.programs.metrics_scene import read
from wakestream.adapters.config.settings import load


async def test_a_killed_leader_is_replaced_and_no_queued_job_is_lost(cluster: Cluster) -> None:
    first, first_url = await cluster.start("a")
    second, second_url = await cluster.start("b", leads=False)
    assert "this hub stands by, " in (said := await cluster.standing_by(second_url))
    assert first_url.split(":")[2].removesuffix("/dsp") in said, "it says who leads"
    client = await cluster.peer(first_url, "client")
    for n in range(20):
        assert (await client.ask(**SUBMIT, request_id=f"job-{n}"))["data"]["position"] == n + 1
    first.process.kill()
    assert await second.address() == second_url
    await has_jobs(cluster, second_url, 20)


async def test_people_and_prometheus_see_which_hub_leads(cluster: Cluster) -> None:
    metrics = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    _, key = cluster.place.book.issue("client", "", time.time())  # before the hubs read the licenses
    first, first_url = await cluster.start("a", "--metrics", metrics[0])
    second, second_url = await cluster.start("b", "--metrics", metrics[1], leads=False)
    names = {url: f"{socket.gethostname()}:{urlsplit(url).port}" for url in (first_url, second_url)}
    asks = {"WAKESTREAM_HUB": f"{second_url},{first_url}", "WAKESTREAM_KEY": key}
    assert f"the hub {names[first_url]} leads (epoch 1)" in (await cluster.user.run("status", **asks)).out

    page = second_url.replace("ws:", "http:").removesuffix("dsp")
    async with aiohttp.ClientSession() as session:
        async with session.get(page, headers={"Accept-Language": "zh-CN"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            said = await response.text()
            assert f"<dt>主服务器</dt><dd>{names[first_url]}</dd>" in said

        async def told(address: str) -> dict[str, float]:
            async with session.get(f"http://{address}/metrics") as response:
                found = read(await response.text())
            return {name: found[f"wakestream_hub_{name}"][()] for name in NAMES if f"wakestream_hub_{name}" in found}

        leads = await told(metrics[0])
        assert (leads["leader"], leads["epoch"], "journal_facts" in leads, len(leads)) == (1, 1, True, 3)
        standby = await told(metrics[1])
        assert (standby["leader"], standby["epoch"], standby["standby_lag_seconds"] > 0, len(standby)) == (
            0,
            1,
            True,
            3,
        )
        first.process.kill()
        assert await second.address() == second_url
        leads = await told(metrics[1])
        assert (leads["leader"], leads["epoch"], leads["takeover_seconds"] > 0, len(leads)) == (1, 2, True, 4)
    assert f"the hub {names[second_url]} leads (epoch 2)" in (await cluster.user.run("status", **asks)).out


NAMES = ("leader", "epoch", "standby_lag_seconds", "takeover_seconds", "journal_facts")


async def test_a_machine_that_joins_learns_all_hubs_of_a_cluster(cluster: Cluster) -> None:
    ports = [free_port(), free_port()]
    public = ",".join(f"ws://127.0.0.1:{port}/dsp" for port in ports)
    run, config = cluster.user.run, {name: str(cluster.folder / f"config-{name}") for name in ("a", "b", "pc")}
    codes = ""
    for name in ("a", "b"):
        flags = ("--public", public, "--journal", cluster.address, "--folder", config[name])
        codes = (await run("init", "hub", *flags, "--state", str(cluster.folder / name))).out
    (code,) = re.findall(r"join \S+ (\S+-\S+)", codes.partition("client")[2])[:1]
    for name, port in zip(("a", "b"), ports, strict=True):
        flags = ("--listen", f"127.0.0.1:{port}", "--state", str(cluster.folder / name), "--journal", cluster.address)
        hub = await cluster.stack.enter_async_context(cluster.user.runs("hub", *flags))
        if name == "a":
            await hub.address()
    await cluster.standing_by(f"ws://127.0.0.1:{ports[1]}/dsp")
    refused = await run("join", f"http://127.0.0.1:{ports[1]}", code, "--folder", config["pc"])
    assert f"HTTP 503: this hub stands by, {socket.gethostname()}:{ports[0]} leads" in refused.err
    at = ",".join(f"127.0.0.1:{port}" for port in reversed(ports))
    joined = await run("join", at, code, "--folder", config["pc"])
    assert joined.code == 0, joined.err
    assert load({}, folder=Path(config["pc"]), environment={}).hub_url == public


async def test_the_doctor_looks_at_each_address_and_at_the_database(cluster: Cluster) -> None:
    _, key = cluster.place.book.issue("client", "", time.time())
    _, first = await cluster.start("a")
    _, second = await cluster.start("b", leads=False)
    flags = ("--listen", "127.0.0.1:0", "--state", str(cluster.folder / "x"))
    other = await (await cluster.stack.enter_async_context(cluster.user.runs("hub", *flags))).address()
    down = f"ws://127.0.0.1:{free_port()}/dsp"
    asks = {"WAKESTREAM_HUB": f"{second},{down},{other},{first}", "WAKESTREAM_KEY": key}
    looked = await cluster.user.run("doctor", "--json", WAKESTREAM_JOURNAL=cluster.address, **asks)
    found = [orjson.loads(line) for line in looked.out.splitlines()]
    hubs = {one["says"].split()[3]: (one["level"], one["says"]) for one in found if "the hub at" in one["says"]}
    leader = f"{socket.gethostname()}:{urlsplit(first).port}"
    assert hubs[first] == ("ok", f"the hub at {first} leads")
    assert hubs[second] == ("ok", f"the hub at {second} stands by, {leader} leads")
    assert hubs[down][0] == "warning"
    assert hubs[other][0] == "fault"
    assert f"the hub at {other} belongs to the cluster " in hubs[other][1]
    (database,) = (one for one in found if one["check"] == "database")
    assert (database["level"], database["says"]) == ("ok", f"the database answers; the hub {leader} leads (epoch 1)")
    looked = await cluster.user.run("doctor", "--json", WAKESTREAM_JOURNAL="postgresql://nobody@127.0.0.1:9/x", **asks)
    assert "postgresql://nobody@127.0.0.1:9/x cannot be opened" in looked.out


async def test_a_paused_leader_is_replaced_and_stands_by_when_it_goes_on(cluster: Cluster) -> None:
    first, first_url = await cluster.start("a")
    second, second_url = await cluster.start("b", leads=False)
    client = await cluster.peer(first_url, "client")
    for n in range(3):
        await client.ask(**SUBMIT, request_id=f"job-{n}")
    first.process.send_signal(signal.SIGSTOP)
    assert await second.address() == second_url
    again = await cluster.peer(second_url, "client")
    assert (await again.ask(**SUBMIT, request_id="job-3"))["data"]["position"] == 4
    await client.send(**SUBMIT, request_id="late")
    first.process.send_signal(signal.SIGCONT)
    assert await client.closed() == 1006, "it answers nothing, and cuts its connections"
    assert second_url.split(":")[2].removesuffix("/dsp") in await cluster.standing_by(first_url)
    await has_jobs(cluster, second_url, 4)


async def test_a_leader_whose_session_ends_answers_503_and_refuses_no_connection(cluster: Cluster) -> None:
    import psycopg

    _, url = await cluster.start("a")
    await cluster.start("b", leads=False)
    client = await cluster.peer(url, "client")
    with psycopg.connect(cluster.address, autocommit=True) as database:
        lock = "locktype = 'advisory' AND granted AND objsubid = 2"
        database.execute(f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE {lock}")  # noqa: S608 - ours
    assert await client.closed() == 1006
    refused: InvalidStatus | None = None
    while refused is None:
        try:
            await cluster.place.connect(url)
        except InvalidStatus as error:
            refused = error
        except ConnectionRefusedError:
            raise
        except (OSError, EOFError, WebSocketException):  # it was let in, and then cut
            continue
    assert (refused.response.status_code, refused.response.headers["Retry-After"]) == (503, "1")


async def test_a_hub_whose_database_crashes_leads_again_when_it_is_back(
    cluster: Cluster, postgres: PostgresServer
) -> None:
    hub, url = await cluster.start("a")
    client = await cluster.peer(url, "client")
    await client.ask(**SUBMIT, request_id="job-0")
    await asyncio.to_thread(postgres.stop, "immediate")
    assert await client.closed() == 1006
    await asyncio.to_thread(postgres.start)
    assert await hub.address() == url
    await has_jobs(cluster, url, 1)


async def answered(url: str) -> int:
    """The HTTP status of the hub's page."""
    async with aiohttp.ClientSession() as session, session.get(url.replace("ws:", "http:").removesuffix("dsp")) as page:
        return page.status


@pytest.mark.parametrize("ways", [["up"], ["down"], ["up", "down"]], ids="-".join)
async def test_a_leader_that_is_cut_off_answers_503_and_has_cut_its_links_when_another_one_leads(
    cluster: Cluster, postgres: PostgresServer, ways: list[str]
) -> None:
    async with fault_proxy(postgres.port) as proxy:
        direct = cluster.address
        cluster.address = direct.replace(str(postgres.port), str(proxy.port))
        _, first_url = await cluster.start("a")
        cluster.address = direct
        second, second_url = await cluster.start("b", leads=False)
        client = await cluster.peer(first_url, "client")
        closed = asyncio.create_task(client.closed())
        proxy.set(**dict.fromkeys(ways, Fault(swallow=True)))  # type: ignore[arg-type]
        assert await second.address() == second_url
        assert await answered(first_url) == 503
        assert closed.done()
        assert closed.result() == 1006


async def test_a_leader_that_was_stopped_and_goes_on_answers_nobody_as_the_leader(cluster: Cluster) -> None:
    first, first_url = await cluster.start("a")
    second, second_url = await cluster.start("b", leads=False)
    links = [await cluster.peer(first_url, "client") for _ in range(3)]
    first.process.send_signal(signal.SIGSTOP)
    try:
        assert await second.address() == second_url
        callers = [await asyncio.open_connection("127.0.0.1", urlsplit(first_url).port) for _ in range(20)]
        for _, writer in callers:
            writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        pongs = [await link.socket.ping() for link in links]
    finally:
        first.process.send_signal(signal.SIGCONT)
    for reader, writer in callers:  # whom it has not accepted may wait until it stands by
        assert await reader.readline() in (b"HTTP/1.1 503 Service Unavailable\r\n", b"")
        writer.close()
    assert [await link.closed() for link in links] == [1006] * 3
    for pong in pongs:
        with pytest.raises(ConnectionClosed):
            await pong
