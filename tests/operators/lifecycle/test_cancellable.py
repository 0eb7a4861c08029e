"""The stage `cancellable` alone."""

import asyncio
from dataclasses import replace

import reactivex as rx
from reactivex.subject import BehaviorSubject, Subject

from tests.support.streams.stage_scene import SUBMITTED, Stage
from wakestream.operators.lifecycle.cancellable import cancellable
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.rx.core.observable import Disposable, LightObservable
from wakestream.operators.rx.sources import of, start_with


def soon() -> Subject[None]:
    """A signal in five seconds."""
    signal = Subject[None]()
    asyncio.get_running_loop().call_later(5.0, signal.on_next, None)
    return signal


async def test_without_a_signal_the_source_passes(stage: Stage) -> None:
    assert await stage.run(of(SUBMITTED).pipe(cancellable(rx.never(), stage.workers))) == [SUBMITTED]


async def test_the_signal_disposes_the_source_and_cancels_the_task_at_its_worker() -> None:
    stage = Stage()
    source = rx.never().pipe(start_with(SUBMITTED), cancellable(soon(), stage.workers))
    assert await stage.run(source) == [SUBMITTED, e.Cancelled()]
    assert stage.worker.said("cancel") == ["task-1"]
    assert stage.end == "|"


async def test_before_the_submit_no_worker_gets_a_cancel() -> None:
    stage = Stage()
    assert await stage.run(rx.never().pipe(cancellable(soon(), stage.workers))) == [e.Cancelled()]
    assert stage.worker.calls == []


async def test_an_earlier_signal_counts_and_nothing_starts() -> None:
    begun: list[str] = []
    source = rx.defer(lambda _: begun.append("begun") or rx.never())
    for signal in (BehaviorSubject(None), of(None)):
        stage = Stage()
        assert await stage.run(source.pipe(cancellable(signal, stage.workers))) == [e.Cancelled()]
        assert stage.end == "|"
    assert begun == []


async def test_a_worker_that_fails_to_cancel_changes_nothing() -> None:
    stage = Stage()
    stage.worker.failures["cancel"] = [errors.WorkerUnreachable("gone")]
    source = rx.never().pipe(start_with(SUBMITTED), cancellable(soon(), stage.workers))
    assert (await stage.run(source))[-1] == e.Cancelled()


async def test_the_cancel_names_the_job() -> None:
    stage, told = Stage(), []

    async def cancel(task_id: str, job_id: str | None = None) -> None:
        told.append((task_id, job_id))

    stage.worker.cancel = cancel  # type: ignore[method-assign]
    await stage.run(rx.never().pipe(start_with(SUBMITTED), cancellable(soon(), stage.workers, "job-2")))
    assert told == [("task-1", "job-2")]


async def test_every_worker_with_a_task_of_the_present_attempt_gets_the_cancel() -> None:
    stage = Stage()
    other = replace(SUBMITTED, worker=e.Online("http://other:8383"), task_id="task-2")
    gone = replace(SUBMITTED, worker=e.Online("http://gone:8383"), task_id="task-0")
    stage.workers.workers |= dict.fromkeys(("http://other:8383", "http://gone:8383"), stage.worker)
    source = rx.never().pipe(start_with(gone, e.Granted("offline", 1.0), SUBMITTED, other))
    assert (await stage.run(source.pipe(cancellable(soon(), stage.workers))))[-1] == e.Cancelled()
    assert stage.worker.said("cancel") == ["task-1", "task-2"]


async def test_a_cancel_while_the_source_is_being_subscribed_counts() -> None:
    stage, signal, disposed = Stage(), Subject[None](), list[str]()

    def begin(*_: object) -> Disposable:
        signal.on_next(None)
        return Disposable(lambda: disposed.append("source"))

    assert await stage.run(LightObservable(begin).pipe(cancellable(signal, stage.workers))) == [e.Cancelled()]
    assert disposed == ["source"]
