"""Formats of journals: an earlier one is migrated after a copy, a later one is refused, changed facts have a number.

tests/data/fact_formats.json has a short hash of each kind of fact, by format and program.
"""

import hashlib
import json
import os
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import apsw
import msgspec

import wakestream
from tests.adapters.disk.test_journal import Paid, Put, journal
from wakestream.adapters.disk.sqlite_file import FORMAT
from wakestream.streams.hub import state as hub
from wakestream.streams.hub.events import Fact
from wakestream.streams.monitor.persistence import MachineKept
from wakestream.streams.outbox import state as outbox
from wakestream.streams.outbox.facts import OutboxFact
from wakestream.streams.worker import state as worker

RECORDED = Path(__file__).parents[2] / "data" / "fact_formats.json"
STORED: dict[str, Any] = {"hub": Fact, "outbox": OutboxFact, "worker": worker.Kept, "monitor": MachineKept}
"""The facts in each program's journal."""

STATES: dict[str, type[Any]] = {"hub": hub.Durable, "outbox": outbox.Durable, "worker": worker.QueueState}
"""The states that are stored as snapshots. A monitor's is its one fact."""

FORMAT_1 = """
    CREATE TABLE facts (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL);
    CREATE TABLE ledger (seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL);
    CREATE INDEX ledger_at ON ledger (at);
    PRAGMA user_version = 1;
"""


def older(path: Path) -> list[Any]:
    """A journal of format 1, after a snapshot and with a commit in its log; returns its facts."""
    facts = [Put("a", 1), Paid(2.5, 7.0), Put("b", 2)]
    db = apsw.Connection(str(path))
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(FORMAT_1)
    for fact in facts:
        row = (type(fact).__name__, msgspec.json.encode(fact))
        db.execute("INSERT INTO facts (kind, data) VALUES (?, ?)", row)
        if isinstance(fact, Paid):
            db.execute("INSERT INTO ledger (at, kind, data) VALUES (?, ?, ?)", (fact.at, *row))
    db.close()
    assert path.with_name(f"{path.name}-wal").stat().st_size
    return facts


async def test_a_journal_of_format_1_is_migrated_and_a_copy_of_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    facts = older(path)
    async with journal(path) as first:
        assert (first.restore(), list(first.read()), await first.ledger()) == ([], facts, [Paid(2.5, 7.0)])
        await first.append([Put("c", 3)])
        assert first._file.end.seq == 4
    db = apsw.Connection(str(tmp_path / "j.sqlite3.v1-backup"))
    assert db.execute("PRAGMA user_version").get == 1
    assert [kind for (kind,) in db.execute("SELECT kind FROM facts ORDER BY seq")] == ["Put", "Paid", "Put"]
    db.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["j.sqlite3", "j.sqlite3-seq", "j.sqlite3.v1-backup"]


async def test_the_copy_is_migrated_again_when_it_took_the_place_of_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    facts = older(path)
    async with journal(path) as first:
        await first.append([Put("c", 3)])
    (tmp_path / "j.sqlite3.v1-backup").replace(path)
    async with journal(path) as again:
        assert list(again.read()) == facts


def as_recorded(text: str) -> str:
    """The text with the names of classes when formats were recorded; no journal has the name of a class in a fact.

    Optional types are written as Python 3.14 writes them.
    """
    return re.sub(r"typing\.Optional\[(\w+)\]", r"\1 | None", text.replace("TaskSpec", "Wish"))


def short_hash(text: str) -> str:
    return hashlib.sha256(as_recorded(text).encode()).hexdigest()[:8]


def hashes(facts: Any) -> dict[str, str]:
    """A short hash of each class that the JSON of these facts has: fields, types, defaults."""
    kinds = get_args(facts) or (facts,)
    _, parts = msgspec.json.schema_components(kinds, schema_hook=lambda kind: {"type": kind.__name__})
    for part in parts.values():
        part.pop("description", None)
    texts = {name: json.dumps(part, sort_keys=True, default=str) for name, part in parts.items()}
    return {as_recorded(name): short_hash(text) for name, text in sorted(texts.items())}


def state_hashes(kind: Any, found: dict[str, str]) -> dict[str, str]:
    """A short hash of each class in a state, by its fields and their types. Indexes (`compare=False`) are left out."""
    for part in get_args(kind):
        state_hashes(part, found)
    if (
        isinstance(kind, type)
        and as_recorded(kind.__name__) not in found
        and (is_dataclass(kind) or issubclass(kind, msgspec.Struct))
    ):
        left_out = {one.name for one in fields(kind) if not one.compare} if is_dataclass(kind) else set()
        hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in left_out}
        text = str(sorted((name, str(hint)) for name, hint in hints.items()))
        found[as_recorded(kind.__name__)] = short_hash(text)
        for hint in hints.values():
            state_hashes(hint, found)
    return dict(sorted(found.items()))


def test_a_changed_fact_or_state_has_a_format_of_its_own() -> None:
    recorded = json.loads(RECORDED.read_text())
    facts = {program: hashes(each) for program, each in STORED.items()}
    states = {program: state_hashes(each, {}) for program, each in STATES.items()}
    now = {"version": wakestream.__version__, "facts": facts, "states": states}
    here = recorded.get(str(FORMAT), {"version": wakestream.__version__})
    if "WAKESTREAM_RECORD_FORMAT" in os.environ and here["version"] == wakestream.__version__:
        recorded[str(FORMAT)] = now
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        return
    assert (facts, states) == (here.get("facts"), here.get("states")), (
        f"facts or states differ from those that version {here['version']} wrote in format {FORMAT}. Raise FORMAT in"
        " adapters/disk/sqlite_file.py if that version is released, then run this test with WAKESTREAM_RECORD_FORMAT=1"
    )


def test_no_kind_of_fact_of_an_earlier_format_is_gone() -> None:
    for format_, entry in json.loads(RECORDED.read_text()).items():
        for program, facts in entry["facts"].items():
            assert facts.keys() <= hashes(STORED[program]).keys(), f"format {format_} of the {program}"
