"""How `submit --each` follows the jobs of its rows, and writes its table of results."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wakestream.adapters.cli import batch
from wakestream.adapters.cli.batch_plan import Item, Plan
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.daemon import api_client as api
from wakestream.adapters.daemon.rows import Row
from wakestream.operators.model.events import Job

FLAGS = SimpleNamespace(as_json=True, lines=True, detach=False, sidecar=False, notify=False)
SUBMISSION: Any = SimpleNamespace(flags=FLAGS, chain=None)


def row(line: int) -> Item:
    nothing: Any = None
    return Item(Row(line, {"name": "a"}), SUBMISSION, nothing)


async def test_ends_whose_events_are_missing_are_found_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = [{"id": f"job-{line}", "outcome": {"event": "done", "path": f"{line}.png"}} for line in range(5)]

    async def jobs(_: str, limit: int, skip: int = 0) -> tuple[list[dict[str, Any]], int]:
        return ended[skip : skip + limit], max(0, len(ended) - skip - limit)

    monkeypatch.setattr(api, "LIST_MOST", 2)
    client: Any = SimpleNamespace(jobs=jobs)
    followed = batch.Batch(Plan("rows", ["name"], [*map(row, range(5))], None), client, Stop())
    for item in followed.plan.items:
        item.id = f"job-{item.row.line}"
        item.said["state"] = "open"
        followed._open[item.id] = item
    await followed._look()
    assert [item.said["result"] for item in followed.plan.items] == [f"{line}.png" for line in range(5)]


async def test_a_row_that_is_tried_again_does_not_end_as_it_did_before(capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"event": "failed", "why": "the disk was full"}

    async def jobs(*_: object) -> tuple[list[dict[str, Any]], int]:
        return [{"id": "job", "outcome": failed}], 0

    async def submit(job: Job, **_: object) -> dict[str, Any]:
        await followed._look()  # events were missed meanwhile
        return {"outcome": failed if job.id == "job" else None}

    item = row(2)
    item.job = Job.lipsync("job", Path("a.mp4"), Path("b.wav"), Path("c.mp4"))
    client: Any = SimpleNamespace(jobs=jobs, submit=submit)
    followed = batch.Batch(Plan("rows", ["name"], [item], None), client, Stop())
    await followed._submit(item)
    assert (item.id, item.state, capsys.readouterr().out) == ("job-2", "open", "")


async def test_a_second_ctrl_c_also_cancels_a_job_whose_submission_has_no_answer_yet() -> None:
    submits, answer, happened = asyncio.Event(), asyncio.Event(), asyncio.Queue[dict[str, Any]]()

    async def submit(*_: object, **__: object) -> dict[str, Any]:
        submits.set()
        await answer.wait()
        return {"outcome": None}

    async def cancel(job: str) -> None:
        if not answer.is_set():
            raise api.DaemonRefused(f"there is no job {job}", code="unknown_job")
        happened.put_nowait({"job": job, "event": "cancelled", "at": 1.0})

    async def events() -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await happened.get()

    async def jobs(*_: object) -> tuple[list[dict[str, Any]], int]:
        return [], 0

    async def spent() -> dict[str, Any]:
        return {}

    async def turns() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    items, stop = [row(2), row(3)], Stop()
    for item in items:
        item.job = Job.lipsync(f"job-{item.row.line}", Path("a.mp4"), Path("b.wav"), Path("c.mp4"))
    client: Any = SimpleNamespace(submit=submit, cancel=cancel, events=events, jobs=jobs, spent=spent)
    ran = asyncio.ensure_future(batch.Batch(Plan("rows", ["name"], items, None), client, stop).run())
    await submits.wait()
    for _ in range(2):
        stop.ask(interrupted=True)
        await turns()
    answer.set()
    assert (await ran, [item.state for item in items]) == (130, ["cancelled", ""])


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

    client: Any = SimpleNamespace(spent=spent)
    plan = Plan("rows", ["name"], [row(2)], Path("rows.results.csv"))
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
