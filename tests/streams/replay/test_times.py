"""A replay compares when jobs act, with a tolerance for a machine that was loaded while the log was made."""

from collections.abc import Mapping

import pytest

from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import GPU, PipelineHarness
from wakestream.adapters.testing.pytest_replay import Replay, ReplayMark, failure
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import WorkerUnreachable, is_retryable
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import TaskReport
from wakestream.streams.recording.recording import Header, Log, Row
from wakestream.streams.replay.divergence import divergences
from wakestream.streams.replay.replay import replay


async def recorded() -> Log:
    """A job whose upload fails once, and which is polled three times."""
    worker = FakeWorker(reports=[TaskReport("processing", percent) for percent in (10.0, 50.0)] + [TaskReport("done")])
    worker.failures["upload"] = [WorkerUnreachable("the connection was lost")]
    policy = Policy(poll_every=0.5, call=Backoff(max_retries=3, initial=0.2, jitter=0.0, retry_on=is_retryable))
    rehearsal = PipelineHarness(workers=FakeWorkers({GPU: worker}, GPU), policy=policy)
    await rehearsal.run()
    return rehearsal.log


@pytest.mark.parametrize(
    ("settings", "late"), [({"call.initial": 20.0}, 19.8), ({"poll_every": 30.0}, 29.5)], ids=["retry", "poll"]
)
async def test_a_longer_pause_than_in_the_log_is_found_and_told(settings: Mapping[str, float], late: float) -> None:
    log = await recorded()
    first = (await replay(log, settings=settings)).divergences[0]
    assert first.late == pytest.approx(late, abs=0.01)
    assert (await replay(log, settings=settings, ignore_time=True)).divergences == ()
    assert (await replay(log)).divergences == ()


def said(at: float) -> Log:
    accepted = Row(1, 100.0, "in", "job.accept", {}, "job-1")
    other = Row(2, 101.0, "in", "job.accept", {}, "job-2")
    rows = (accepted, other, Row(3, at, "out", "note", {"event": "note", "text": "x"}, "job-1"))
    return Log(Header("daemon", 0.0, 0), rows)


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        (102.0, 102.1, True),  # later by up to 0.1 s
        (102.0, 102.2, False),
        (102.0, 101.0, True),  # earlier by up to 1 s
        (103.0, 101.5, False),
        (110.0, 108.0, True),  # or by a fifth of the time since the job's input
        (110.0, 107.9, False),
    ],
)
def test_a_loaded_machine_is_late_in_the_log_and_never_early(then: float, now: float, same: bool) -> None:
    assert (divergences(said(then), said(now)) == []) == same


def test_the_report_says_by_how_much(request: pytest.FixtureRequest) -> None:
    then, now = said(102.0), said(122.0)
    (found,) = divergences(then, now)
    assert found.lines() == ["- out note", "-   at 102.000 s", "+ out note", "+   at 122.000 s"]
    mark = ReplayMark(request.node, __file__)
    told = failure(Replay(mark, then, now, (found,), {}))
    assert "The program acts 20.000 s later than in the log; ignore_time=True compares no times." in told
