"""Each call of a replay gets the answer that its like was given when the log was made."""

import asyncio
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wakestream.operators.model.errors import (
    StageTimeout,
    Stalled,
    TaskFailed,
    WakestreamError,
    WorkerError,
    is_retryable,
)
from wakestream.operators.model.events import FileRef, Job
from wakestream.operators.model.ports import Output, TaskReport
from wakestream.streams.jobs.effects import LoggedEffects, LoggedFiles, LoggedWorkers, error_from, plain_error, recorded
from wakestream.streams.jobs.world import World
from wakestream.streams.recording.recording import Header, Log, Row, Tap
from wakestream.streams.replay.recorded_ports import Answers, effects_of

JOB = Job.lipsync("job", Path("clip.mp4"), Path("speech.wav"), Path("out.mp4"))


def log(*rows: tuple[float, str, dict[str, Any]]) -> Log:
    numbered = enumerate(rows, 1)
    return Log(
        Header("daemon", 0.0, 1), tuple(Row(n, t, "effect", label, data, "job") for n, (t, label, data) in numbered)
    )


def answers(*rows: tuple[float, str, dict[str, Any]]) -> Answers:
    loop = asyncio.get_running_loop()

    async def until(t: float) -> None:
        await asyncio.sleep(max(0.0, t - loop.time()))

    return Answers(effects_of(log(*rows)), "job", until)


def report(t: float, at: str | None, percent: float, task: str = "t") -> tuple[float, str, dict[str, Any]]:
    data = {"args": {"task_id": task}, "ok": {"status": "processing", "percent": percent}}
    return t, "report", data if at is None else {**data, "at": at}


async def test_calls_side_by_side_get_each_the_answers_of_its_own_worker() -> None:
    workers = LoggedWorkers(answers(report(1.0, "b", 10), report(2.0, "a", 20), report(3.0, "b", 30)))
    a, b = workers.at("a"), workers.at("b")
    first, second = await asyncio.gather(a.report("t"), b.report("t"))
    assert (first.percent, second.percent) == (20, 10)
    assert (await b.report("t")).percent == 30
    assert asyncio.get_running_loop().time() == 3.0


async def test_a_worker_whose_answers_are_used_up_takes_none_of_anothers() -> None:
    workers = LoggedWorkers(answers(report(1.0, "b", 10)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1000):
            await workers.at("a").report("t")
    assert (await workers.at("b").report("t")).percent == 10


async def test_logs_that_do_not_say_which_worker_are_answered_in_their_order() -> None:
    workers = LoggedWorkers(answers(report(1.0, None, 10), report(2.0, None, 20)))
    assert [(await workers.at(url).report("t")).percent for url in ("a", None)] == [10, 20]


async def test_a_call_is_answered_by_its_arguments_first_and_by_its_turn_else() -> None:
    workers = LoggedWorkers(answers(report(1.0, "a", 10, "x"), report(2.0, "a", 20, "y")))
    assert (await workers.at("a").report("y")).percent == 20
    assert await workers.at("a").report("another") == TaskReport("processing", 10)


async def test_the_items_of_two_uploads_at_once_are_not_mixed_up() -> None:
    def item(t: float, name: str, **what: Any) -> tuple[float, str, dict[str, Any]]:
        return t, "upload", {"args": {"hash": name}, "at": "a", **what}

    rows = (
        item(1, "v", item=5),
        item(2, "w", item=7),
        item(3, "v", end=True),
        item(4, "w", item=9),
        item(5, "w", end=True),
    )
    worker = LoggedWorkers(answers(*rows)).at("a")

    async def sent(name: str) -> list[int]:
        file: Any = None
        return [count async for count in worker.upload(file, FileRef(name, ".mp4"))]

    assert list(await asyncio.gather(sent("w"), sent("v"))) == [[7, 9], [5]]


async def test_files_and_effects_of_ones_own_are_answered_alike() -> None:
    read = {"path": "a.mp4", "size": 3, "mtime_ns": 0, "digests": {"md5": "0"}}
    rows = (
        (1.0, "fingerprint", {"args": {"path": "a.mp4", "algorithms": ["md5"]}, "ok": read}),
        (2.0, "own.tell", {"args": {"who": "her"}, "ok": None}),
        (3.0, "own.tell", {"args": {"who": "him"}, "ok": "thanks"}),
    )
    known = answers(*rows)
    assert (await LoggedFiles(known).fingerprint(Path("a.mp4"), {"md5"})).size == 3

    async def never() -> str:
        raise AssertionError("a replay carries nothing out")

    assert await LoggedEffects(known).call("tell", {"who": "him"}, never) == "thanks"
    assert await LoggedEffects(known).call("tell", {"who": "her"}, never) is None


class Word(str):
    """A text of a library that has a class for it."""

    __slots__ = ()


async def test_the_report_of_a_worker_of_ones_own_may_have_texts_of_a_class_of_their_own() -> None:
    rows: list[Any] = []
    seen = TaskReport(Word("done"), message=Word("all"), outputs=(Output(Word("video"), ".mp4", 3, "b3"),))

    async def said(_: str) -> TaskReport:
        return seen

    own = SimpleNamespace(at=lambda _: SimpleNamespace(report=said))
    tap = cast("Tap", SimpleNamespace(row=lambda _, label, data, job: rows.append((1.0, label, data))))
    ports = recorded(World(cast("Any", None), cast("Any", own), cast("Any", None), Random(1)), tap, JOB)
    assert await ports.workers.at("a").report("t") == seen
    assert await LoggedWorkers(answers(*rows)).at("a").report("t") == seen


class Busy(WorkerError):
    """A kind of the user's own."""

    code = "busy"
    retryable = True


class Patience(StageTimeout):
    """A wait of the user's own."""

    code = "patience"
    retryable = True


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (Busy("wait"), WorkerError, True),
        (TaskFailed("no"), TaskFailed, False),
        (WakestreamError("no", code="mine"), WakestreamError, False),
        (StageTimeout("stage", 3.0), StageTimeout, False),
        (Stalled("upload", 60.0, "no byte for a minute"), Stalled, True),
        (Patience("kiln", 9.0), StageTimeout, True),
    ],
)
def test_an_error_comes_back_as_the_nearest_kind_of_ours_and_as_mendable_as_it_was(
    error: WakestreamError, kind: type[WakestreamError], again: bool
) -> None:
    back = error_from(plain_error(error))
    assert isinstance(back, kind)
    assert (str(back), back.code, is_retryable(back)) == (str(error), error.code, again)
    assert _limit(back) == _limit(error)


def _limit(error: WakestreamError) -> tuple[str, float] | None:
    return (error.stage, error.seconds) if isinstance(error, StageTimeout) else None


def test_an_error_that_is_not_ours_comes_back_with_the_words_of_its_outcome() -> None:
    back = error_from(plain_error(KeyError("x")))
    assert (str(back), back.code, is_retryable(back)) == ("KeyError: 'x'", "internal", False)
