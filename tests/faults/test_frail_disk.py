"""The journal on a disk that fails: at every write and every sync the power goes, or the disk says no.

After each: every append that returned is there, whatever else is there is whole appends in their order.
`make faults` takes every step, the usual test run a seeded choice of them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

from tests.support.faults.case_counts import LONG, some
from tests.support.faults.crash_vfs import FrailDisk, Trouble
from wakestream.adapters.disk import sqlite_file
from wakestream.adapters.disk.journal import StoredJournal, open_journal
from wakestream.adapters.disk.journal_bound import bound_path
from wakestream.operators.model.errors import JournalError, NoSpace

CHOSEN = 40
"""Steps of each kind of trouble that a short run takes."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Fact `n`, one of those of append `call`; `filler` makes some of them longer than a page."""

    LEDGER: ClassVar[bool] = True
    n: int
    call: int
    at: float
    filler: str = ""


@dataclass
class Writer:
    """Appends and keeps account: `facts` in order, `kept` the calls that returned, `refused` those told no space."""

    facts: list[Noted] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    calls: int = 0
    broke: Exception | None = None

    async def append(self, journal: StoredJournal[Any], count: int, size: int) -> None:
        self.calls += 1
        call = self.calls
        new = [Noted(len(self.facts) + i, call, float(call), "x" * size) for i in range(count)]
        self.facts.extend(new)
        try:
            await journal.append(new)
        except NoSpace:
            self.refused.add(call)
            self.facts = [fact for fact in self.facts if fact.call != call]
        except JournalError as error:
            self.broke = error
        else:
            self.kept.add(call)

    def snapshot(self) -> Sequence[bytes]:
        return (json.dumps([(fact.n, fact.call) for fact in self.facts]).encode(),)


async def work(writer: Writer, journal: StoredJournal[Any], seed: int) -> None:
    """A few dozen appends: one at a time, and many at once."""
    random = Random(seed)
    for _ in range(14):
        sizes = [(random.randint(1, 4), random.choice((10, 10, 10, 9000))) for _ in range(random.choice((1, 1, 3)))]
        await asyncio.gather(*(writer.append(journal, count, size) for count, size in sizes))
        if writer.broke is not None:
            return


@asynccontextmanager
async def journal_on(disk: FrailDisk, path: Path, **options: Any) -> AsyncIterator[StoredJournal[Any]]:
    """A journal on this disk. Its bound is on the real disk, which loses no write: the bound must not be ahead."""
    beside = bound_path(path)
    before = beside.read_bytes() if disk.files and beside.exists() else None  # other files of the same run read it too
    if not disk.files:
        beside.unlink(missing_ok=True)
    try:
        async with open_journal(path, Noted, program="test", vfs=disk.name, **options) as journal:
            yield journal
    finally:
        if before is not None:
            beside.write_bytes(before)


async def written(disk: FrailDisk, path: Path, limit: int, seed: int) -> Writer:
    """What a program appended to a journal on this disk before it could no more."""
    writer = Writer()
    try:
        async with journal_on(disk, path, limit=limit) as journal:
            journal.snapshot = writer.snapshot
            await work(writer, journal, seed)
    except (JournalError, NoSpace) as error:
        writer.broke = error
    return writer


async def read(files: dict[str, bytearray], path: Path) -> tuple[list[tuple[int, int]], list[Noted]]:
    """What the next start finds: the facts, and the ledger."""
    disk = FrailDisk(files=files)
    async with journal_on(disk, path) as journal:
        facts = [(n, call) for row in journal.restore() for n, call in json.loads(row)]
        return [*facts, *((fact.n, fact.call) for fact in journal.read())], await journal.ledger()


def check(writer: Writer, facts: list[tuple[int, int]], ledger: list[Noted]) -> None:
    """All that was promised is there; what is there beside it is whole and in order."""
    found = [call for _, call in facts]
    assert writer.kept <= set(found), "an append that returned is not there"
    assert not writer.refused & set(found), "an append that was refused is there"
    asked = [(fact.n, fact.call) for fact in writer.facts]
    assert facts == asked[: len(facts)], "the order is not kept"
    for call in set(found):
        assert found.count(call) == sum(fact.call == call for fact in writer.facts), "an append is there in part"
    assert {fact.call for fact in ledger} >= writer.kept
    assert not {fact.call for fact in ledger} & writer.refused


@pytest.fixture(autouse=True)
def _small_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints every few pages, so that the steps of many are among those that fail."""
    monkeypatch.setattr(sqlite_file, "_CHECKPOINT_PAGES", 12)


def steps_of(limit: int, path: Path, only: str | None = None) -> int:
    """How many steps the whole work takes when nothing fails."""
    disk = FrailDisk(Trouble("error", 10**9, only=only))
    writer = asyncio.run(written(disk, path, limit, 0))
    assert writer.broke is None
    assert writer.kept == set(range(1, writer.calls + 1))
    return disk.counted


def chosen(count: int) -> list[int]:
    return some(range(1, count + 1), CHOSEN)


LIMITS = pytest.mark.parametrize("limit", [10_000, 12], ids=["growing", "cut_down"])


@LIMITS
@pytest.mark.timeout(600 if LONG else 60)
def test_a_power_cut_at_any_step_loses_no_confirmed_fact(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "j.sqlite"
    interrupted = 0
    for at in chosen(steps_of(limit, path)):
        disk = FrailDisk(Trouble("crash", at))
        writer = asyncio.run(written(disk, path, limit, 0))
        interrupted += writer.broke is not None
        for random in (None, Random(at), Random(-at)):
            check(writer, *asyncio.run(read(disk.after_crash(random), path)))
        check(writer, *asyncio.run(read(disk.as_it_is(), path)))
    assert interrupted > 10


@LIMITS
@pytest.mark.timeout(600 if LONG else 60)
@pytest.mark.parametrize("only", [None, "sync"])
def test_a_disk_error_at_any_step_loses_no_confirmed_fact(tmp_path: Path, limit: int, only: str | None) -> None:
    path = tmp_path / "j.sqlite"
    for at in chosen(steps_of(limit, path, only)):
        disk = FrailDisk(Trouble("error", at, only=only))
        writer = asyncio.run(written(disk, path, limit, 0))
        assert writer.broke is None or str(path) in str(writer.broke), writer.broke
        for files in (disk.as_it_is(), disk.after_crash(), disk.after_crash(Random(at))):
            check(writer, *asyncio.run(read(files, path)))


@LIMITS
@pytest.mark.timeout(600 if LONG else 60)
def test_the_journal_continues_after_a_full_disk(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "j.sqlite"
    # Only the log: where a checkpoint fails, SQLite lets the commit stand, but a VFS in Python cannot keep its error to
    # itself.
    refusals = 0
    for at in chosen(steps_of(limit, path, "wal write")):
        disk = FrailDisk(Trouble("full", at, steps=5, only="wal write"))
        writer = asyncio.run(written(disk, path, limit, 0))
        if isinstance(writer.broke, NoSpace) and not writer.calls:
            continue  # full already when the program starts: it says so, and does not start
        assert writer.broke is None, writer.broke
        assert len(writer.kept) + len(writer.refused) == writer.calls
        refusals += len(writer.refused)
        for files in (disk.as_it_is(), disk.after_crash()):
            check(writer, *asyncio.run(read(files, path)))
    assert refusals > 3
