"""How `submit --each` writes its table of results."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wakestream.adapters.cli import batch
from wakestream.adapters.cli.batch_plan import Item, Plan
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.daemon.rows import Row


async def test_a_writing_of_the_table_ends_before_the_next_begins_also_when_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on, written = threading.Event(), threading.Event(), list[bytes]()

    def write(_: Path, content: bytes, **__: object) -> None:
        begun.set()
        go_on.wait()
        written.append(content)

    async def spent() -> dict[str, Any]:
        return {}

    nothing: Any = None
    how: Any = SimpleNamespace(as_json=False, plain=True, quiet=False, detach=False)
    client: Any = SimpleNamespace(spent=spent)
    plan = Plan("rows", ["name"], [Item(Row(2, {"name": "a"}), how, nothing)], Path("rows.results.csv"))
    monkeypatch.setattr(batch, "write_atomic", write)
    writing = asyncio.ensure_future(batch.Batch(plan, client, Stop())._write())
    await asyncio.to_thread(begun.wait)
    writing.cancel()
    try:
        assert not (await asyncio.wait((writing,), timeout=0.1))[0]
    finally:
        go_on.set()
    await asyncio.wait((writing,))
    assert written
