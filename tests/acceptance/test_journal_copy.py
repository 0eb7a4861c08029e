"""`wakestream journal copy` with a real PostgreSQL: a hub goes on in the database where its folder ended, and back."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.programs.state_folders import digests, put
from wakestream.adapters.cli import main
from wakestream.adapters.disk.documents import NAMES
from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.net.capability_keys import Signer
from wakestream.streams.hub import events as f
from wakestream.streams.hub.hub import DECIDER, HubState

RELEASED = Path(__file__).parents[1] / "data" / "states" / "0.1.0.json"


def facts(count: int) -> Sequence[f.Fact]:
    return [f.GpuPhase("studio", "online" if n % 2 else "off", at=float(n)) for n in range(count)]


async def fill(folder: Path) -> None:
    """A hub's folder with a snapshot, facts after it, a ledger, and all documents."""
    state = HubState()
    async with open_journal(folder / "hub.sqlite3", f.Fact, program="hub", limit=20) as journal:
        journal.snapshot = lambda: DECIDER.snapshot(state)
        for fact in facts(70):
            DECIDER.evolve(state, fact)
            await journal.append([fact])
        assert journal.restore()
    Invites(folder).create("client", time.time())
    LicenseBook(folder).issue("client", "alice", 0.0)
    Signer.of_folder(folder)
    uses = LicenseUses.of_folder(folder)
    uses.note("license-1", "192.0.2.1", 1.0)
    text = uses.due((), {}, 1.0)
    assert text is not None
    uses.write(text)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main.main(["journal", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out + said.err


def rows(folder: Path) -> object:
    from wakestream.adapters.disk.sqlite_file import SqliteFile

    with contextlib.closing(SqliteFile(folder / "hub.sqlite3", "test")) as file:
        return file.id, file.end.seq, file.restore(), list(file.read()), list(file.ledger(0.0))


async def test_a_journal_goes_to_a_database_and_back_and_is_the_same(
    postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, back, address = tmp_path / "first", tmp_path / "back", await asyncio.to_thread(postgres.database)
    await fill(first)
    before = rows(first)
    code, said = await asyncio.to_thread(run, capsys, "copy", first, address)
    assert (code, "read again and compared" in said) == (0, True), said
    assert "4 files such as the licenses" in said
    code, said = await asyncio.to_thread(run, capsys, "copy", address, back)
    assert code == 0, said
    assert rows(back) == before
    assert [(back / name).read_bytes() for name in NAMES] == [(first / name).read_bytes() for name in NAMES]
    assert (await asyncio.to_thread(run, capsys, "check", back))[0] == 0


async def test_a_state_of_an_earlier_release_is_copied_and_one_with_a_file_of_a_later_version_is_refused(
    postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hub"
    put(json.loads(RELEASED.read_text())["hub"], folder, {})
    (folder / "invites.json").write_text('{"v":2}')
    before = digests(folder)
    address = await asyncio.to_thread(postgres.database)
    code, said = await asyncio.to_thread(run, capsys, "copy", folder, address)
    assert (code, "invites.json cannot be used: a later version of wakestream wrote it" in said) == (2, True), said
    assert digests(folder) == before
    (folder / "invites.json").unlink()
    code, said = await asyncio.to_thread(run, capsys, "copy", folder, address)
    assert (code, "15 facts since, 5 rows of the ledger" in said) == (0, True), said


async def test_what_is_in_use_missing_or_not_empty_is_refused_and_stays_as_it_is(
    postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from wakestream.adapters.disk.postgres_store import PostgresStore

    folder, address = tmp_path / "hub", await asyncio.to_thread(postgres.database)
    await fill(folder)
    with contextlib.closing(PostgresStore(address, idle=100.0)) as leader:
        assert leader.lead("hub-a")
        code, said = await asyncio.to_thread(run, capsys, "copy", folder, address)
        assert (code, "is in use, hub-a leads; stop all its hubs" in said) == (2, True)
    async with open_journal(folder / "hub.sqlite3", f.Fact, program="hub"):
        code, said = await asyncio.to_thread(run, capsys, "copy", folder, address)
        assert (code, "another wakestream hub uses it" in said) == (2, True), said
    for source, target, why in (
        (tmp_path / "none", address, "has no journal"),
        (address, folder, "has a journal already; give an empty folder"),
        (folder, "postgresql://me:hunter2@h/db", "which others can see"),
    ):
        code, said = await asyncio.to_thread(run, capsys, "copy", source, target)
        assert (code, why in said, "hunter2" in said) == (2, True, False), said
    assert (await asyncio.to_thread(run, capsys, "copy", folder, address))[0] == 0
    code, said = await asyncio.to_thread(run, capsys, "copy", folder, address)
    assert (code, "has a journal or licenses already" in said) == (2, True)
