"""Tasks that an earlier version kept as files are taken over once, and broken files do no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.task_files import import_task_files, load
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import worker as w

GOOD = w.Task("a" * 32, FileRef("1" * 32, ".mp4"), FileRef("2" * 32, ".wav"), "queued", 1.0, holders=frozenset({""}))


def plain(**other: object) -> dict[str, Any]:
    """A task file as earlier versions wrote it."""
    return {
        "id": "a" * 32, "video": {"hash": "1" * 32, "ext": ".mp4"}, "audio": {"hash": "2" * 32, "ext": ".wav"},
        "status": "queued", "created_at": 1.0, "attempt": 1, "holders": [""], "started_at": None, "finished_at": None,
        "size": 0, "digest": None, "error": None, **other,
    }  # fmt: skip


def write(folder: Path, **other: object) -> None:
    folder.mkdir(exist_ok=True)
    task = plain(**other)
    (folder / f"{task['id']}.json").write_bytes(orjson.dumps(task))


async def test_tasks_are_taken_over_once_and_their_folder_is_set_aside(tmp_path: Path) -> None:
    journal: FakeJournal[w.Kept] = FakeJournal()
    write(tmp_path / "tasks")
    await import_task_files(tmp_path / "tasks", journal)
    assert journal.read() == (w.Changed(GOOD),)
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.imported"]
    await import_task_files(tmp_path / "tasks", journal)
    assert len(journal.read()) == 1


async def test_a_take_over_that_was_cut_off_before_the_folder_was_set_aside_changes_nothing(tmp_path: Path) -> None:
    journal: FakeJournal[w.Kept] = FakeJournal()
    await journal.append([w.Changed(GOOD)])
    write(tmp_path / "tasks", status="failed")
    await import_task_files(tmp_path / "tasks", journal)
    assert journal.read() == (w.Changed(GOOD),)


def test_a_broken_task_file_is_set_aside(tmp_path: Path) -> None:
    for name, text in {"a": "{", "b": "[]", "c": '{"id": "c"}', "d": '{"video": 1, "audio": 2}'}.items():
        (tmp_path / f"{name}.json").write_text(text)
    assert load(tmp_path) == []
    assert len(list(tmp_path.glob("*.broken"))) == 4


@pytest.mark.parametrize(
    "rubbish",
    [
        {"created_at": "long ago"}, {"status": "zzz"}, {"holders": [1, None]}, {"attempt": "1"}, {"finished_at": "x"},
        {"video": {"hash": 1, "ext": ".mp4"}}, {"size": None}, {"more": 1},
    ],
)  # fmt: skip
def test_a_task_file_whose_values_make_no_sense_is_set_aside_and_the_others_are_found(
    tmp_path: Path, rubbish: dict[str, object]
) -> None:
    write(tmp_path)
    write(tmp_path, **{"id": "b" * 32, **rubbish})
    assert load(tmp_path) == [GOOD]
    assert (tmp_path / f"{'b' * 32}.broken").exists()
