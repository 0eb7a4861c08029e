"""The journal on a real file: what it promised is there after any end, and whatever is wrong with it is a sentence."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import apsw
import msgspec
import pytest

from wakestream.adapters.disk.journal import StoredJournal, open_journal
from wakestream.operators.model.errors import JournalError, NoSpace


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: int
    more: Mapping[str, Any] = field(default_factory=dict)
    where: Path | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    key: str


@dataclass(frozen=True, slots=True)
class Paid:
    LEDGER: ClassVar[bool] = True
    at: float
    sum: float


Fact = Put | Dropped | Paid


def journal(path: Path, **options: Any) -> Any:
    return open_journal(path, Fact, program="hub", **options)


async def kept(path: Path) -> list[Any]:
    async with journal(path) as again:
        return list(again.read())


async def test_what_was_appended_is_read_again_in_order(tmp_path: Path) -> None:
    facts = [Put("a", 1, {"x": [1, None, "é"]}, tmp_path), Dropped("a"), Put("b", 2)]
    async with journal(tmp_path / "new" / "j.sqlite3") as first:
        await first.append(facts[:2])
        await first.append([])
        await first.append(facts[2:])
        await first.close()  # as a hub does before its block ends
    assert await kept(tmp_path / "new" / "j.sqlite3") == facts


async def test_the_settings_that_make_it_durable_are_in_force(tmp_path: Path) -> None:
    async with journal(tmp_path / "j.sqlite3") as first:
        db = first._file._db
        assert db.execute("PRAGMA journal_mode").get == "wal"
        assert db.execute("PRAGMA synchronous").get == 2


async def test_concurrent_appends_share_commits_and_all_are_stored(tmp_path: Path) -> None:
    async with journal(tmp_path / "j.sqlite3") as first:
        begin = threading.Event()
        first._thread.submit(begin.wait, 100)  # as a commit that is being synced
        asyncio.get_running_loop().call_later(0, asyncio.get_running_loop().call_soon, begin.set)
        await asyncio.gather(*(first.append([Put(str(n), n)]) for n in range(500)))
        assert first.commits == 1
    assert [fact.value for fact in await kept(tmp_path / "j.sqlite3")] == list(range(500))


async def test_confirmed_appends_survive_a_kill(tmp_path: Path) -> None:
    program = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.adapters.disk.test_journal import Put, journal
async def main():
    async with journal(Path(sys.argv[1])) as first:
        for n in range(100):
            await first.append([Put(str(n), n), Put(str(n), n)])
            print(n, flush=True)
            if n == 57:
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
asyncio.run(main())
"""
    path = tmp_path / "j.sqlite3"
    command = [sys.executable, "-c", program, str(path), str(Path(__file__).parents[3])]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=150)
    assert done.stdout.split()[-1] == "57", done.stderr
    assert [fact.value for fact in await kept(path)] == [n for n in range(58) for _ in range(2)]


async def test_replacing_the_journal_by_a_snapshot_loses_nothing(tmp_path: Path) -> None:
    state: dict[str, int] = {}

    def snapshot() -> list[bytes]:
        return [msgspec.json.encode(state)]

    async def put(first: StoredJournal[Fact], n: int) -> None:
        state[str(n % 7)] = n
        await first.append([Put(str(n % 7), n)])

    path = tmp_path / "j.sqlite3"
    async with journal(path, limit=20) as first:
        first.snapshot = snapshot
        await asyncio.gather(*(put(first, n) for n in range(1000)))
        for n in range(1000, 1100):
            await put(first, n)
        assert first._file.rows < 60
    rows, facts = await state_and_facts(path)
    assert msgspec.json.decode(rows[0]) | {fact.key: fact.value for fact in facts} == state


async def test_the_loop_goes_on_while_a_snapshot_is_written(tmp_path: Path) -> None:
    went_on = threading.Event()

    def slow() -> Iterator[bytes]:
        assert went_on.wait(100)
        yield b"state"

    path = tmp_path / "j.sqlite3"
    async with journal(path, limit=3) as first:
        await first.append([Put("a", n) for n in range(4)])
        first.snapshot = slow
        asyncio.get_running_loop().call_soon(went_on.set)
        await first.append([Put("b", 0)])
        assert first.facts == 0
    assert await state_and_facts(path) == ([b"state"], [])


async def state_and_facts(path: Path) -> tuple[list[bytes], list[Any]]:
    async with journal(path) as again:
        return again.restore(), list(again.read())


@pytest.mark.parametrize("included", [True, False])
async def test_a_snapshot_of_the_state_replaces_the_facts_that_it_contains(tmp_path: Path, included: bool) -> None:
    path = tmp_path / "j.sqlite3"
    cuts: list[int] = []

    def snapshot() -> Iterator[bytes]:
        cuts.append(1)
        return iter([b"one row", b"and another"])

    async with journal(path, limit=3) as first:
        first.snapshot, first.snapshot_includes_append = snapshot, included
        await first.append([Put("a", n) for n in range(4)])
        assert not cuts
        await asyncio.gather(first.append([Put("b", 0)]), first.append([Put("c", 0)]))
        assert cuts == [1]
        await first.append([Put("d", 0)])
        assert first._file.end.seq == 7, "sequence numbers continue after a cut"
    facts = [Put("c", 0), Put("d", 0)] if included else [Put("b", 0), Put("c", 0), Put("d", 0)]
    assert await state_and_facts(path) == ([b"one row", b"and another"], facts)


async def test_a_snapshot_is_followed_by_the_next_when_as_much_was_appended(tmp_path: Path) -> None:
    sizes: list[int] = []
    async with journal(tmp_path / "j.sqlite3", limit=3) as first:
        first.snapshot = lambda: [b"x" * 1000]
        for n in range(100):
            await first.append([Put("a", n)])
            sizes.append(first._file.size)
    assert max(sizes) < 2_100
    assert sum(after < before for before, after in pairwise(sizes)) in (3, 4, 5)


async def test_the_ledger_outlives_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    async with journal(path, limit=3) as first:
        first.snapshot = list
        for n in range(20):
            await first.append([Paid(float(n), 0.5), Put("x", n)])
        assert [fact.at for fact in await first.ledger()] == list(range(20))
    async with journal(path) as again:
        assert [fact.at for fact in await again.ledger(since=17)] == [17, 18, 19]


async def test_a_second_program_on_the_same_file_is_refused(tmp_path: Path) -> None:
    async with journal(tmp_path / "j.sqlite3"):
        with pytest.raises(JournalError, match="another wakestream hub uses it"):
            await kept(tmp_path / "j.sqlite3")
    assert await kept(tmp_path / "j.sqlite3") == []


async def test_a_file_of_a_later_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    await kept(path)
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"a later version of wakestream wrote it \(format 99\)"):
        await kept(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j.sqlite3"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"j.sqlite3 cannot be"):
        await kept(path)
    assert path.read_bytes() == content


async def test_a_folder_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite3").mkdir()
    with pytest.raises(JournalError, match="look at the disk and its permissions"):
        await kept(tmp_path / "j.sqlite3")
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="look at the disk and its permissions"):
        await kept(tmp_path / "file" / "j.sqlite3")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name of a file is text")
async def test_a_folder_name_that_is_not_unicode_is_reported(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="its name is not UTF-8; choose another folder"):
        await kept(tmp_path / "odd-\udcff" / "j.sqlite3")


async def test_a_fact_that_this_version_does_not_know_is_named(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite3", Paid, program="hub") as first:
        await first.append([Paid(1.0, 2.0)])
    with pytest.raises(JournalError, match="it holds a 'Paid', which this version does not know"):
        async with open_journal(tmp_path / "j.sqlite3", Put, program="hub") as other:
            list(other.read())


async def test_fields_of_other_versions_are_ignored_or_get_their_defaults(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Coloured:
        STORED_AS: ClassVar[str] = "Put"
        key: str
        value: int
        colour: str

    path = tmp_path / "j.sqlite3"
    async with open_journal(path, Coloured, program="hub") as other:
        await other.append([Coloured("a", 1, "red")])
    assert await kept(path) == [Put("a", 1)]


async def test_a_full_disk_stores_nothing_until_there_is_space(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    async with journal(path) as first:
        await first.append([Put("before", 1)])
        db = first._file._db
        pages = db.execute("PRAGMA page_count").get
        db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Exception, match=r"no space left for .*j.sqlite3; make room"):
            await first.append([Put("large", 2, {"x": "y" * 100_000}), Put("small", 3)])
        db.execute("PRAGMA max_page_count = 1000000")
        await first.append([Put("after", 4)])
    assert [fact.key for fact in await kept(path)] == ["before", "after"]


async def test_an_append_without_space_is_not_stored_by_the_snapshot_of_the_next(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    old, large, small = [Put("old", n) for n in range(4)], Put("large", 1, {"x": "y" * 90_000}), Put("small", 1)
    async with journal(path, limit=3) as first:
        await first.append(old[:3])
        db = first._file._db
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').get}")
        await first.append(old[3:])
        refused = asyncio.create_task(first.append([large]))
        await asyncio.sleep(0)
        first.snapshot = lambda: [b"with the large one"]
        with contextlib.suppress(NoSpace):  # both may be in one commit
            await first.append([small])
        with pytest.raises(NoSpace):
            await refused
        db.execute("PRAGMA max_page_count = 1000000")
    rows, facts = await state_and_facts(path)
    assert (rows, facts[:4]) == ([], old)
    assert large not in facts


async def test_an_append_that_fits_is_stored_even_if_the_snapshot_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    facts = [Put("old", n) for n in range(4)]
    async with journal(path, limit=3) as first:
        await first.append(facts)
        first.snapshot = lambda: [b"y" * 100_000]
        db = first._file._db
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').get}")
        await first.append([Put("new", 1)])
        db.execute("PRAGMA max_page_count = 1000000")
        assert first.facts == 5
    assert await kept(path) == [*facts, Put("new", 1)]


async def test_after_a_failed_write_every_append_fails(tmp_path: Path) -> None:
    async with journal(tmp_path / "j.sqlite3") as first:
        first._file._db.close()
        with pytest.raises(JournalError, match=r"j.sqlite3 cannot be written"):
            await first.append([Put("a", 1)])
        with pytest.raises(JournalError):
            await first.append([Put("b", 1)])


async def test_an_append_that_waits_while_another_one_breaks_the_journal_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def breaks(_: object) -> None:
        begun.set()
        go_on.wait()
        raise OSError("the disk is gone")

    async with journal(tmp_path / "j.sqlite3") as first:
        with monkeypatch.context() as patched:
            patched.setattr(first._file, "append", breaks)
            appends = [asyncio.ensure_future(first.append([Put("a", 1)]))]
            await asyncio.to_thread(begun.wait)
            appends.append(asyncio.ensure_future(first.append([Put("b", 1)])))
            await asyncio.sleep(0)
        go_on.set()
        for append in appends:
            with pytest.raises(JournalError, match="the disk is gone"):
                await append


async def test_no_thread_is_left_when_it_is_closed(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    async with journal(tmp_path / "j.sqlite3") as first:
        await first.append([Put("a", 1)])
        assert "journal-j_0" in {thread.name for thread in threading.enumerate()}
    assert "journal-j_0" not in {thread.name for thread in threading.enumerate()} - before
