"""The journal in a real PostgreSQL: what was acknowledged is there after any end, and one session writes at a time."""

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from tests.support.postgres import PostgresServer, postgres_server
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.disk.documents import NAMES
from wakestream.adapters.disk.journal import StoredJournal
from wakestream.operators.model.errors import Fenced, JournalError, NoSpace
from wakestream.streams.recording.facts_json import FactsJson


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: int
    more: str = ""


@dataclass(frozen=True, slots=True)
class Paid:
    LEDGER: ClassVar[bool] = True
    at: float
    sum: float


Fact = Put | Paid


LATER_DOCUMENT = """INSERT INTO wakestream.documents VALUES ('{}', 1, '{{"v": 99}}')"""

LONG = 100.0
"""Seconds, so that a test whose session is idle does not fail on a busy machine."""


def store(address: str, idle: float = LONG, **options: Any) -> Any:
    """A store whose `close` returns when its lock is free: a busy server notices the end of a session late."""
    import psycopg

    from wakestream.adapters.disk.postgres_store import PostgresStore

    class Store(PostgresStore):
        def close(self) -> None:
            sessions = [self._session, *([self._lease._session] if self._lease else ())]
            processes = [session.info.backend_pid for session in sessions if not session.closed]
            super().close()
            if not processes:  # the server ended them
                return
            held = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = ANY(%s)"
            with contextlib.suppress(psycopg.Error), psycopg.connect(address, autocommit=True) as look:
                while look.execute(held, [processes]).rowcount:
                    pass

    return Store(address, idle=idle, **options)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy server may take longer to answer than a hub waits for it."""
    module = pytest.importorskip("wakestream.adapters.disk.postgres", exc_type=ImportError)
    monkeypatch.setitem(module._DEFAULTS, "connect_timeout", f"{LONG:g}")
    monkeypatch.setattr(module, "PATIENCE", LONG)
    monkeypatch.setattr(module.Session, "patience", LONG)


@contextlib.asynccontextmanager
async def journal(address: str, **options: Any) -> AsyncIterator[StoredJournal[Any]]:
    leader = await asyncio.to_thread(store, address)
    with contextlib.ExitStack() as stack:
        stack.callback(leader.close)
        assert await asyncio.to_thread(leader.lead, "test")
        stack.pop_all()
    kept: StoredJournal[Any] = StoredJournal(leader, FactsJson(Fact, address), **options)  # type: ignore[arg-type]
    try:
        yield kept
    finally:
        await kept.close()


async def state_and_facts(address: str) -> tuple[list[bytes], list[Any]]:
    async with journal(address) as again:
        return again.restore(), list(again.read())


async def test_what_was_appended_is_read_again_in_order(postgres: PostgresServer) -> None:
    address, facts = postgres.database(), [Put("a", 1, "é"), Paid(0.1, 2.0), Put("b", 2)]
    async with journal(address) as first:
        await first.append(facts[:2])
        await first.append([])
        await first.append(facts[2:])
    assert await state_and_facts(address) == ([], facts)


async def test_concurrent_appends_share_commits_and_all_are_stored(postgres: PostgresServer) -> None:
    address = postgres.database()
    async with journal(address) as first:
        await asyncio.gather(*(first.append([Put(str(n), n)]) for n in range(500)))
        assert first.commits < 50
    assert [fact.value for fact in (await state_and_facts(address))[1]] == list(range(500))


async def test_acknowledged_facts_survive_a_kill_of_the_program_and_of_the_server(postgres: PostgresServer) -> None:
    program = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[2])
from tests.adapters.disk.test_postgres_journal import Put, journal
async def main():
    async with journal(sys.argv[1]) as first:
        for n in range(100):
            await first.append([Put(str(n), n), Put(str(n), n)])
            print(n, flush=True)
            if n == 57:
                os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    address = postgres.database()
    command = [sys.executable, "-c", program, address, str(Path(__file__).parents[3])]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=150)
    assert done.stdout.split()[-1] == "57", done.stderr
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.to_thread(postgres.start)
    assert [fact.value for fact in (await state_and_facts(address))[1]] == [n for n in range(58) for _ in range(2)]


@pytest.mark.parametrize("included", [True, False])
async def test_a_snapshot_of_the_state_replaces_the_facts_that_it_contains(
    postgres: PostgresServer, included: bool
) -> None:
    address = postgres.database()
    async with journal(address, limit=3) as first:
        first.snapshot, first.snapshot_includes_append = lambda: [b"one row", b"and another"], included
        await first.append([Put("a", n) for n in range(4)])
        await asyncio.gather(first.append([Put("b", 0)]), first.append([Put("c", 0)]))
        await first.append([Put("d", 0)])
    facts = [Put("c", 0), Put("d", 0)] if included else [Put("b", 0), Put("c", 0), Put("d", 0)]
    assert await state_and_facts(address) == ([b"one row", b"and another"], facts)


async def test_the_ledger_outlives_a_cut(postgres: PostgresServer) -> None:
    address = postgres.database()
    async with journal(address, limit=3) as first:
        first.snapshot = list
        for n in range(20):
            await first.append([Paid(float(n), 0.5), Put("x", n)])
        assert [fact.at for fact in await first.ledger()] == list(range(20))
    async with journal(address) as again:
        assert [fact.at for fact in await again.ledger(since=17)] == [17, 18, 19]


async def test_who_follows_has_all_facts_in_order_across_cuts_and_need_not_read_the_snapshot(
    postgres: PostgresServer,
) -> None:
    address = postgres.database()
    state: dict[str, int] = {}
    async with journal(address, limit=20) as first:
        first.snapshot = lambda: [msgspec.json.encode(state), b" " * 3000]
        follower = await asyncio.to_thread(store, address)
        seen, snapshots = [], 0
        for n in range(200):
            state[str(n % 7)] = n
            await first.append([Put(str(n % 7), n, "x" * 200)])
            if n % 9 == 0:
                follower.follow()
                snapshots += bool(follower.restore())
                seen += [msgspec.json.decode(row.data)["value"] for row in follower.read()]
        assert follower.lead() is False
    await taken_over(follower, "second")
    seen += [msgspec.json.decode(row.data)["value"] for row in follower.read()]
    assert (seen, snapshots, follower.epoch, follower.leader) == (list(range(200)), 0, 2, "second")
    late = store(address)
    late.follow()
    restored = msgspec.json.decode(late.restore()[0])
    restored |= {fact["key"]: fact["value"] for fact in (msgspec.json.decode(row.data) for row in late.read())}
    assert restored == state
    follower.close()
    late.close()


async def test_who_takes_over_knows_the_size_of_all_facts_and_cuts_the_journal_in_time(
    postgres: PostgresServer,
) -> None:
    address, facts = postgres.database(), [Put("a", n, "x" * 100) for n in range(10)]
    async with journal(address) as first:
        follower = await asyncio.to_thread(store, address)
        for fact in facts:
            await first.append([fact])
            follower.follow()
            assert len([*follower.read()]) == 1
    await taken_over(follower)
    assert [*follower.read()] == []
    assert (follower.rows, follower.size) == (10, sum(len(FactsJson(Put, "").row(fact).data) for fact in facts))
    follower.close()


async def test_a_session_that_the_server_ended_writes_no_more_and_says_so(postgres: PostgresServer) -> None:
    address = postgres.database()
    broken: asyncio.Future[JournalError] = asyncio.get_running_loop().create_future()
    async with journal(address) as first:
        first.on_broken = broken.set_result
        assert first.confirm is not None
        await first.append([Put("a", 1)])
        await first.confirm()
        postgres.sql(address, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert isinstance(await broken, Fenced), "the beat notices it without an append"
        with pytest.raises(Fenced, match="ended: terminating connection due to administrator command"):
            await first.append([Put("b", 2)])
        with pytest.raises(Fenced):
            await first.confirm()
    assert await state_and_facts(address) == ([], [Put("a", 1)])


async def test_the_server_ends_the_session_of_a_paused_program_which_another_one_then_takes(
    postgres: PostgresServer,
) -> None:
    address = postgres.database()
    other, paused = store(address), store(address, idle=2.0)  # a busy server opens a session late
    assert paused.lead()
    await taken_over(other)
    with pytest.raises(Fenced, match="idle-session timeout"):
        paused.append([FactsJson(Put, address).row(Put("late", 1))])
    assert (other.follow(), other.epoch) == (0, 2)
    other.close()
    paused.close()


async def test_a_session_that_stopped_within_a_statement_is_ended_by_those_who_wait(postgres: PostgresServer) -> None:
    address = postgres.database()
    other, paused = store(address), store(address, idle=2.0)  # a busy server opens a session late
    assert paused.lead()
    half = paused._session.pgconn
    half.enter_pipeline_mode()
    half.send_query_params(b"SELECT 1", None)  # without its end, for which the server waits: that is no idle session
    half.flush()
    await taken_over(other)
    paused.close()
    other.close()


async def taken_over(other: Any, *name: str) -> None:
    """Return when the other one leads."""
    while not await asyncio.to_thread(other.lead, *name):  # noqa: ASYNC110 - this is how it learns it
        await asyncio.sleep(0.05)


def test_a_database_that_lost_facts_or_is_another_one_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    address, rows = postgres.database(), [FactsJson(Put, "").row(Put("a", n)) for n in range(3)]
    with contextlib.closing(store(address, bound=tmp_path / "hub")) as first:
        assert first.lead()
        first.append(rows)
    with contextlib.closing(store(address, bound=tmp_path / "hub")) as again:
        assert again.lead()
    postgres.sql(
        address, "DELETE FROM wakestream.facts WHERE seq = 3"
    )  # as after the failover to a server that is behind
    with (
        contextlib.closing(store(address, bound=tmp_path / "hub")) as behind,
        pytest.raises(
            JournalError, match="it ends with fact 2, but 3 facts were written; correct the address, or remove"
        ),
    ):
        behind.follow()
    with (
        contextlib.closing(store(postgres.database(), bound=tmp_path / "hub")) as other,
        pytest.raises(JournalError, match="this hub has written to another one before"),
    ):
        other.follow()


async def test_a_full_disk_stores_nothing_until_there_is_space(postgres: PostgresServer) -> None:
    full = """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"""
    address = postgres.database()
    async with journal(address) as first:
        await first.append([Put("before", 1)])
        on = "CREATE TRIGGER full_disk BEFORE INSERT ON wakestream.facts EXECUTE FUNCTION full_disk()"
        postgres.sql(address, full, on)
        with pytest.raises(NoSpace, match=r"no space left for postgresql://.*; make room at its server"):
            await first.append([Put("none", 2)])
        postgres.sql(address, "DROP TRIGGER full_disk ON wakestream.facts")
        await first.append([Put("after", 3)])
    assert [fact.key for fact in (await state_and_facts(address))[1]] == ["before", "after"]


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        (
            "facts",
            "UPDATE wakestream.facts SET data = '{}' WHERE seq = 2",
            r"it is damaged \(fact 2\); restore a backup",
        ),
        ("facts", "DELETE FROM wakestream.facts WHERE seq = 2", r"it is damaged \(fact 3\)"),
        ("meta", "UPDATE wakestream.meta SET seq = 1", r"it is damaged \(its head\)"),
        ("meta", "UPDATE wakestream.meta SET format = 99", r"a later version of wakestream wrote it \(format 99\)"),
        *(("documents", LATER_DOCUMENT.format(name), r"\(format 99\); use that version") for name in NAMES),
    ],
)
async def test_a_changed_row_or_a_later_version_is_refused(
    postgres: PostgresServer, table: str, change: str, said: str
) -> None:
    address = postgres.database()
    async with journal(address) as first:
        await first.append([Put("a", n) for n in range(3)])
    postgres.sql(address, change)
    before = contents(postgres, address)
    with pytest.raises(JournalError, match=said):
        await state_and_facts(address)
    assert contents(postgres, address) == before


def contents(postgres: PostgresServer, address: str) -> list[str]:
    tables = ("meta", "snapshot", "facts", "ledger", "documents")
    return [postgres.sql(address, f"TABLE wakestream.{table}") for table in tables]


@pytest.mark.parametrize("change", ["UPDATE wakestream.meta SET format = 99", LATER_DOCUMENT.format(NAMES[0])])
async def test_a_standby_does_not_lead_after_a_leader_of_a_later_version(postgres: PostgresServer, change: str) -> None:
    address = postgres.database()
    async with journal(address) as first:
        await first.append([Put("a", 1)])
        standby = store(address)
        standby.follow()
        postgres.sql(address, change)
    before = contents(postgres, address)
    with contextlib.closing(standby), pytest.raises(JournalError, match=r"\(format 99\); use that version"):
        standby.lead()
    assert contents(postgres, address) == before


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("ALTER DATABASE {} SET synchronous_commit = off", "synchronous_commit = off and may lose facts; set it to on"),
        ("ALTER DATABASE {} SET default_transaction_read_only = on", "session is read-only"),
        ("REVOKE CREATE ON DATABASE {} FROM PUBLIC", "may not make tables in the database .*AUTHORIZATION other"),
    ],
)
async def test_a_database_that_would_lose_facts_or_gives_no_rights_is_refused(
    postgres: PostgresServer, setting: str, said: str
) -> None:
    address = postgres.database()
    with contextlib.suppress(AssertionError):  # it is there already
        postgres.sql("postgres", "CREATE ROLE other LOGIN")
    postgres.sql("postgres", setting.format(address.rpartition("/")[2]))
    with pytest.raises(JournalError, match=said):
        store(address.replace("wakestream@", "other@") if "REVOKE" in setting else address)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_loses_facts_in_a_power_cut_is_refused(setting: str) -> None:
    with (
        postgres_server(f"{setting} = off") as server,
        pytest.raises(
            JournalError, match=f"its server has {setting} = off and loses facts in a power cut; set it to on"
        ),
    ):
        store(server.database())


async def test_a_pooler_in_between_is_noticed_and_refused(postgres: PostgresServer) -> None:
    ended = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As a pooler: the client gets another process id for its session than the server's."""
        from_server, to_server = await asyncio.open_connection("127.0.0.1", postgres.port)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(re.sub(rb"K\0\0\0\x0c.{4}", b"K\0\0\0\x0c\0\1\2\3", data, flags=re.DOTALL))
            sink.close()
            await sink.wait_closed()

        await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))
        ended.set()

    pooler = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with pooler:
        address = postgres.database().replace(str(postgres.port), str(pooler.sockets[0].getsockname()[1]))
        with pytest.raises(JournalError, match=r"a pooler \(such as PgBouncer\) is in between"):
            await asyncio.to_thread(store, address)
        await ended.wait()


@pytest.mark.parametrize("secret", ["postgresql://me:hunter2@h/db", "postgresql://me@h/db?password=hunter2"])
def test_a_password_in_the_address_is_refused_and_not_repeated(secret: str) -> None:
    pytest.importorskip("psycopg", reason="the extra wakestream[postgres] is not installed")
    with pytest.raises(SettingsError, match=r"which others can see; put it into ~/\.pgpass") as refused:
        store(secret)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("address", ["hub.sqlite3", "dbname=hub", "postgresql://h/db?nonsense=1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    pytest.importorskip("psycopg", reason="the extra wakestream[postgres] is not installed")
    with pytest.raises(SettingsError, match="--journal is no address; write postgresql://USER@HOST:5432/DATABASE"):
        store(address)


def test_a_server_that_is_not_there_is_a_sentence(postgres: PostgresServer) -> None:
    with pytest.raises(JournalError, match=r"cannot be opened: .*does not exist"):
        store(f"{postgres.database()}x")
    with pytest.raises(JournalError, match=r"postgresql://me@127.0.0.1:1/db cannot be opened: .*refused"):
        store("postgresql://me@127.0.0.1:1/db")
