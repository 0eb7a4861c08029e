"""The journal in a real PostgreSQL with a fault: nothing acknowledged is lost, who is not sure to lead is fenced."""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
import traceback
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.adapters.disk.test_postgres_journal import Put, journal, state_and_facts, store, taken_over
from tests.support.faults.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.faults.small_disk import small_disk
from tests.support.postgres import PostgresServer, postgres_server, replica_of
from wakestream.operators.model.errors import Fenced, JournalError, NoSpace

SILENT = Fault(swallow=True)


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(postgres.port) as running:
        yield running


def through(proxy: "FaultProxy | SlowLine", postgres: PostgresServer, address: str) -> str:
    """The address by way of the proxy."""
    return address.replace(str(postgres.port), str(proxy.port))


async def ended(first: Any) -> JournalError:
    """Why the journal broke."""
    broken: asyncio.Future[JournalError] = asyncio.get_running_loop().create_future()
    first.on_broken = lambda error: broken.done() or broken.set_result(error)
    return await broken


async def write(first: Any, acknowledged: list[int], more: str = "") -> None:
    """Append one fact after the other, until that fails."""
    for n in itertools.count():
        await first.append([Put(str(n), n, more)])
        acknowledged.append(n)


async def test_a_session_of_a_program_that_writes_nothing_for_long_stays(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wakestream.adapters.disk import postgres_store

    monkeypatch.setattr(postgres_store, "BEAT", 0.1)
    leader, other = store(address := postgres.database()), store(address)
    assert leader.lead()
    session = leader._session.info.backend_pid
    idle = f"SELECT state_change FROM pg_stat_activity WHERE pid = {session}"  # noqa: S608 - a number
    leader.keep()
    for _ in range(5):  # the server counts how long a session is idle from there
        since = await asyncio.to_thread(postgres.sql, "postgres", idle)
        while await asyncio.to_thread(postgres.sql, "postgres", idle) == since:
            pass
    leader.confirm()
    assert not other.lead()
    leader.close()
    other.close()


async def test_a_hub_whose_sign_of_life_failed_once_while_it_stood_by_shows_it_when_it_leads(
    postgres: PostgresServer,
) -> None:
    leader, beat, lost = store(postgres.database()), asyncio.Event(), list[Exception]()
    loop, real = asyncio.get_running_loop(), leader._beat
    leader._beat = lambda: (_ for _ in ()).throw(JournalError("canceling statement due to user request"))
    leader.keep(lost.append)
    await asyncio.to_thread(leader._beats.join)
    leader._beat = lambda: (real(), loop.call_soon_threadsafe(beat.set))
    assert leader.lead()
    beat.clear()
    try:
        await asyncio.to_thread(leader.keep)
        await beat.wait()
    finally:
        leader.close()
    assert len(lost) == 1


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_half_open_connection_is_noticed_and_the_leader_fenced(
    postgres: PostgresServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    from wakestream.adapters.disk.postgres import Session

    address = postgres.database()
    async with journal(through(proxy, postgres, address)) as first:
        await first.append([Put("before", 1)])
        monkeypatch.setattr(Session, "patience", 1.0)
        proxy.set(**{way: SILENT})
        why = await ended(first)
        assert isinstance(why, Fenced)
        assert "no answer in 1 s" in str(why)
        with pytest.raises(Fenced):
            await first.append([Put("after", 2)])
        proxy.heal()
        proxy.break_all()
    assert [fact.key for fact in (await state_and_facts(address))[1]] == ["before"]


async def test_appends_by_a_slow_connection_are_slow_and_the_session_stays(
    postgres: PostgresServer, proxy: FaultProxy
) -> None:
    address = postgres.database()
    async with journal(through(proxy, postgres, address)) as first:
        proxy.set(Fault(latency=0.05, slice=500), Fault(latency=0.05, slice=50))
        await asyncio.gather(*(first.append([Put(str(n), n, "x" * 50)]) for n in range(50)))
        proxy.heal()
    assert len((await state_and_facts(address))[1]) == 50


class SlowLine:
    """Carries connections to a port of this machine; each byte arrives `latency` seconds later, whatever came before.

    `arrived` is set whenever bytes of the server arrive.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port, self.latency, self.arrived = target, 0, 0.0, asyncio.Event()
        self.carried: list[asyncio.Task[Any] | None] = []

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a connection that was accepted."""
        self.carried.append(asyncio.current_task())
        there, here = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(self._one_way(reader, here), self._one_way(there, writer, self.arrived.set))
        for end in (here, writer):
            with contextlib.suppress(OSError):
                end.close()
                await end.wait_closed()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: Any = None) -> None:
        later = asyncio.get_running_loop().call_later
        while data := await reader.read(65536):
            later(self.latency, writer.write, data)
            if said is not None:
                later(self.latency, said)
        writer.close()


@pytest.mark.parametrize("seconds", [1.0, 2.0])
async def test_a_leader_whose_database_gives_each_answer_late_goes_on_to_lead(
    postgres: PostgresServer, seconds: float
) -> None:
    from wakestream.adapters.disk.postgres import IDLE
    from wakestream.adapters.disk.postgres_lease import clock

    line, address, lost = SlowLine(postgres.port), postgres.database(), list[Exception]()
    async with await asyncio.start_server(line.carry, "127.0.0.1", 0) as server:
        line.port = server.sockets[0].getsockname()[1]
        leader = await asyncio.to_thread(store, through(line, postgres, address), idle=IDLE)
        leader.keep(lost.append)
        assert await asyncio.to_thread(leader.lead)
        line.latency, until = seconds / 2, clock() + 3 * IDLE
        while clock() < until and not lost:
            line.arrived.clear()
            await line.arrived.wait()
            assert leader.leads()
        line.latency = 0.0
        await asyncio.to_thread(leader.close)
        await asyncio.gather(*filter(None, line.carried))
    assert lost == []


async def test_a_statement_that_takes_longer_than_the_lease_does_not_end_it(postgres: PostgresServer) -> None:
    from wakestream.adapters.disk.postgres import IDLE

    address, lost = postgres.database(), list[Exception]()
    leader, other = store(address, idle=IDLE), store(address)
    leader.keep(lost.append)
    assert await asyncio.to_thread(leader.lead)
    await asyncio.to_thread(leader._session.execute, "SELECT pg_sleep(%s)", [IDLE + 1])
    assert (leader.leads(), other.lead(), lost) == (True, False, [])
    leader.close()
    other.close()


async def test_a_leader_whose_clock_went_on_while_it_was_paused_is_not_sure_before_it_asks_the_server(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wakestream.adapters.disk import postgres_lease
    from wakestream.adapters.disk.postgres import IDLE

    leader, real, lost = store(postgres.database(), idle=IDLE), postgres_lease.clock, asyncio.Event()
    loop, why = asyncio.get_running_loop(), list[Exception]()
    leader.keep(lambda error: (why.append(error), loop.call_soon_threadsafe(lost.set)))
    assert await asyncio.to_thread(leader.lead)
    assert leader.leads()
    monkeypatch.setattr(postgres_lease, "clock", lambda: real() + IDLE)
    assert not leader.leads()
    await lost.wait()
    assert isinstance(why[0], Fenced)
    assert "no answer in 2.75 s" in str(why[0])
    leader.close()


async def test_no_other_one_leads_before_the_lease_has_ended_though_the_session_that_writes_has(
    postgres: PostgresServer,
) -> None:
    address = postgres.database()
    leader, other = store(address), store(address)
    assert leader.lead()
    session = leader._session.info.backend_pid
    postgres.sql("postgres", f"SELECT pg_terminate_backend({session})")
    while await asyncio.to_thread(postgres.sql, "postgres", f"SELECT FROM pg_locks WHERE pid = {session}"):
        pass
    assert not other.lead()
    assert not other.lead()
    assert leader.leads()
    leader.close()
    await taken_over(other)
    other.close()


async def test_a_lease_that_stopped_within_a_statement_is_ended_by_those_who_wait(postgres: PostgresServer) -> None:
    address = postgres.database()
    other, paused = store(address), store(address, idle=2.0)  # a busy server opens a session late
    assert paused.lead()
    half = paused._lease._session.pgconn
    half.enter_pipeline_mode()
    half.send_query_params(b"SELECT 1", None)  # without its end
    half.flush()
    await taken_over(other)
    paused.close()
    other.close()


@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_connection_fences_the_leader_at_once_and_what_was_acknowledged_is_there(
    postgres: PostgresServer, proxy: FaultProxy, reset: bool
) -> None:
    address, acknowledged = postgres.database(), list[int]()
    async with journal(through(proxy, postgres, address)) as first:
        proxy.set(down=Fault(cut_after=proxy.passed["down"] + 5000, reset=reset))
        with pytest.raises(Fenced):
            await write(first, acknowledged)
    proxy.heal()
    values = [fact.value for fact in (await state_and_facts(address))[1]]
    assert values in (acknowledged, [*acknowledged, len(acknowledged)]), "the answer to the last may be lost"
    assert acknowledged


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_leader_whose_database_restarts_or_is_killed_is_fenced_and_nothing_acknowledged_is_lost(
    postgres: PostgresServer, how: str
) -> None:
    address, acknowledged = postgres.database(), list[int]()
    async with journal(address) as first:
        await first.append([Put("before", -1)])
        writing = asyncio.create_task(write(first, acknowledged))
        await asyncio.to_thread(postgres.kill if how == "kill" else partial(postgres.stop, "fast"))
        with pytest.raises(Fenced):
            await writing
    await asyncio.to_thread(postgres.start)
    values = [fact.value for fact in (await state_and_facts(address))[1]][1:]
    assert values in (acknowledged, [*acknowledged, len(acknowledged)])


async def test_two_that_stand_by_never_lead_at_once(postgres: PostgresServer) -> None:
    address = postgres.database()
    first, second, third = (store(address) for _ in range(3))
    assert first.lead("first")
    assert [second.lead("second"), third.lead("third")] == [False, False]
    first.close()
    won: list[bool] = []
    while not any(won):  # the server may still be ending the first session
        won = await asyncio.gather(*(asyncio.to_thread(one.lead, "next") for one in (second, third)))
    assert sorted(won) == [False, True]
    leader, other = (second, third) if won[0] else (third, second)
    assert not other.lead()
    leader.close()
    await taken_over(other)
    assert other.epoch == 3
    other.close()


async def test_the_full_disk_of_a_database_loses_nothing_acknowledged_and_stores_nothing_twice() -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)  # the server's account is another one
        disk = stack.enter_context(small_disk(folder / "disk", 160 * 2**20))
        server = stack.enter_context(postgres_server("max_wal_size = '32MB'", at=disk.path))
        address, acknowledged = server.database(), list[int]()
        async with journal(address) as first:
            disk.fill(2**20)
            with pytest.raises((NoSpace, Fenced)):  # NoSpace, or the server itself ends as its log has no room
                await write(first, acknowledged, "x" * 100_000)
            disk.make_room()
            with contextlib.suppress(Fenced):
                await first.append([Put("again", -1)])
                acknowledged.append(-1)
        await asyncio.to_thread(server.up)
        values = [fact.value for fact in (await state_and_facts(address))[1]]
        assert values in (acknowledged, [*acknowledged, len(acknowledged)])


async def test_a_leader_that_the_server_lets_go_on_without_its_synchronous_standby_is_fenced() -> None:
    with postgres_server() as server:
        address = f"postgresql://wakestream@127.0.0.1:{server.port}/postgres"

        def wait_for(standby: str) -> None:
            server.sql(
                "postgres", f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'", "SELECT pg_reload_conf()"
            )
            while server.sql("postgres", "SHOW synchronous_standby_names") != standby:
                pass

        server.sql("postgres", "ALTER DATABASE postgres SET synchronous_commit = local")
        wait_for("nowhere")
        with pytest.raises(JournalError, match="synchronous_commit = local and may lose facts; set it to on"):
            store(address)
        wait_for("")
        server.sql("postgres", "ALTER DATABASE postgres RESET synchronous_commit")
        async with journal(address) as first:
            await first.append([Put("a", 1)])
            wait_for("nowhere")
            writing = asyncio.create_task(first.append([Put("b", 2)]))
            waits = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            while await asyncio.to_thread(server.sql, "postgres", waits) != "t":
                assert not writing.done() or writing.exception() is None
                if writing.done():  # the session did not know of the standby yet
                    writing = asyncio.create_task(first.append([Put("b", 2)]))
            with pytest.raises(Fenced, match="may lose what was written: canceling wait for synchronous replication"):
                await writing


async def test_a_synchronous_standby_that_is_promoted_has_all_that_was_acknowledged() -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(postgres_server())
        database = first.database().rpartition("/")[2]
        second = stack.enter_context(replica_of(first))
        only = f"postgresql://wakestream@127.0.0.1:{second.port}/{database}"
        with pytest.raises(JournalError, match=r"cannot be opened: .*session is read-only"):
            store(only)
        both = f"postgresql://wakestream@127.0.0.1:{second.port},127.0.0.1:{first.port}/{database}"
        acknowledged: list[int] = []
        async with journal(both) as leader:
            await leader.append([Put("before", -1)])
            writing = asyncio.create_task(write(leader, acknowledged))
            await asyncio.to_thread(first.kill)
            with pytest.raises(Fenced):
                await writing
        await asyncio.to_thread(second.promote)
        values = [fact.value for fact in (await state_and_facts(both))[1]][1:]
        assert values in (acknowledged, [*acknowledged, len(acknowledged)])


def test_a_server_whose_certificate_is_not_trusted_is_refused(tmp_path: Path) -> None:
    ours, others = trustme.CA(), trustme.CA()
    pair = ours.issue_cert("127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        pair.private_key_pem.write_to_path(key)
        pair.cert_chain_pems[0].write_to_path(certificate)
        key.chmod(0o600)
        certificate.chmod(0o644)
        if os.getuid() == 0:
            shutil.chown(key, "postgres")
        files = f"ssl_key_file = '{key}'", f"ssl_cert_file = '{certificate}'"
        with postgres_server("ssl = on", *files) as server:
            address = f"{server.database()}?sslmode=verify-full&sslrootcert="
            for ca, name in ((ours, "ours"), (others, "others")):
                ca.cert_pem.write_to_path(tmp_path / name)
            store(f"{address}{tmp_path / 'ours'}").close()
            with pytest.raises(JournalError, match=r"cannot be opened: .*certificate verify failed"):
                store(f"{address}{tmp_path / 'others'}")


def test_a_password_of_the_environment_or_a_file_is_in_no_error(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = postgres.database("CREATE ROLE locked LOGIN SUPERUSER PASSWORD 'right'").replace("wakestream@", "locked@")
    rules = postgres.data / "pg_hba.conf"
    rules.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    postgres.sql("postgres", "SELECT pg_reload_conf()")
    passwords = tmp_path / "passwords"
    passwords.write_text("*:*:*:locked:right\n")
    passwords.chmod(0o600)
    store(f"{address}?passfile={passwords}").close()
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(JournalError, match=r"cannot be opened: .*password authentication failed") as refused:
        store(address)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


async def test_an_account_that_may_only_read_is_refused_with_the_right_that_it_lacks(postgres: PostgresServer) -> None:
    address = postgres.database("CREATE ROLE reader LOGIN")
    async with journal(address) as first:
        await first.append([Put("a", 1)])
    postgres.sql(
        address,
        "GRANT USAGE ON SCHEMA wakestream TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA wakestream TO reader",
    )
    reader = store(address.replace("wakestream@", "reader@"))
    with pytest.raises(JournalError, match=r"cannot be written: permission denied for table meta.*; grant this right"):
        reader.lead()
    reader.close()
    assert await state_and_facts(address) == ([], [Put("a", 1)])


async def test_a_role_or_database_without_a_limit_for_idle_sessions_has_ours(postgres: PostgresServer) -> None:
    address = postgres.database()
    name = address.rpartition("/")[2]
    postgres.sql(address, f"ALTER DATABASE {name} SET idle_session_timeout = 0")
    other, paused = store(address), store(address, idle=1.0)  # a busy server opens a session late
    assert paused.lead()
    await taken_over(other)
    with pytest.raises(Fenced, match="idle-session timeout"):
        paused.confirm()
    paused.close()
    other.close()


def test_a_server_that_is_too_old_to_end_idle_sessions_is_refused(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wakestream.adapters.disk import postgres as sessions

    monkeypatch.setattr(sessions, "_LEAST", 99)
    with pytest.raises(JournalError, match=r"its server is PostgreSQL \d\d; use version 99 or later"):
        store(postgres.database())
