"""Jobs that have results of other jobs as inputs: when they start, and what ends them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest

from tests.streams.outbox import test_outbox as outbox_desk
from tests.support.streams.submitting import submitting
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.outbox import chains, outbox
from wakestream.streams.outbox import facts as f

TEXT = f.FileStat("/in/a.txt", 10, 1)


class Desk(outbox_desk.Desk):
    """The jobs of an outbox copy the results of others."""

    def __init__(self) -> None:
        super().__init__(webhook=True)

    def submit(self, job: str, *after: str, retry_of: str = "") -> Self:
        inputs = {f"f{number}": f.FileStat(f"/out/{one}.bin", 0, 0) for number, one in enumerate(after)} or {
            "text": TEXT
        }
        sources = {f"f{number}": f"{one}:out" for number, one in enumerate(after)}
        return self.happens(
            submitting(
                1, job, inputs, {"out": f"/out/{job}.bin"}, "copy", retry_of=retry_of, after=after, sources=sources
            )
        )

    def ends(self, job: str, event: e.JobEvent | None = None) -> Self:
        return self.says(event or e.Done(Path(f"/out/{job}.bin"), 5), job)

    def restart(self) -> Self:
        self.state = outbox.DECIDER.recover(self.kept)
        self.state.webhook = True
        return self.happens(f.DaemonStarted())

    def of(self, kind: type) -> list[str]:
        return [command.job for command in self.commands if isinstance(command, kind)]


def test_a_job_waits_for_the_job_whose_result_it_needs() -> None:
    desk = Desk().submit("a").submit("b", "a")
    assert (desk.of(f.Start), desk.of(f.Hold)) == ([], ["b"])
    assert desk.ends("a").of(f.Start) == ["b"]


def test_it_waits_for_all_of_them() -> None:
    desk = Desk().submit("a").submit("b").submit("c", "a", "b")
    assert desk.ends("a").of(f.Start) == []
    assert desk.ends("b").of(f.Start) == ["c"]


def test_after_a_restart_it_still_waits_and_starts_then() -> None:
    desk = Desk().submit("a").submit("b", "a").restart()
    assert (desk.of(f.Start), desk.of(f.Hold)) == (["a"], ["b"])
    assert desk.ends("a").restart().of(f.Start) == ["b"]


def test_a_job_that_is_done_already_is_not_waited_for() -> None:
    desk = Desk().submit("a").ends("a").submit("b", "a")
    assert desk.of(f.Start) == ["b"]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (e.Failed("no luck", "task_failed"), "failed: no luck"),
        (e.Cancelled(), "was cancelled"),
        (e.TimedOut("online", 60.0, ""), "timed out"),
    ],
)
def test_all_that_follow_end_when_a_job_has_no_result(end: e.JobEvent, words: str) -> None:
    desk = Desk().submit("a").submit("b", "a").submit("c", "b").ends("a", end)
    assert desk.of(f.Tell) == ["a", "b", "c"]
    assert desk.of(f.Start) == []
    for job in ("b", "c"):
        ended = desk.state.jobs[job].ended
        assert ended is not None
        assert (ended.outcome, ended.code) == ("failed", "after_failed")
        assert ended.why == f"job a, whose result it needs, {words}"
    assert not desk.state.queue
    told = [pending.job for pending in desk.state.pending.values()]
    assert set(told) >= {"b", "c"}


def test_a_job_after_one_that_failed_is_refused_until_that_is_tried_again() -> None:
    desk = Desk().submit("a").ends("a", e.Failed("no luck", "task_failed")).submit("b", "a")
    (answer,) = desk.commands
    assert isinstance(answer, f.Answer)
    assert desk.answer == (409, "after_failed")
    assert answer.reason.endswith("try it again: wakestream retry a")
    desk.submit("a2", retry_of="a")
    assert chains.source(desk.state, "inputs.f", "a:out") == ("a2", "/out/a2.bin", False)


def test_a_cancelled_job_that_waits_does_not_start() -> None:
    desk = Desk().submit("a").submit("b", "a").cancel("b")
    assert desk.ends("a").of(f.Start) == []


def test_a_result_is_named_by_its_job_and_its_name_or_the_main_one_by_the_job() -> None:
    desk = Desk().submit("a").ends("a")
    assert chains.source(desk.state, "inputs.f", "a:out") == chains.source(desk.state, "inputs.f", "a")
    with pytest.raises(WrongInput, match=r"inputs\.f: job a has no result 'log'; it has out"):
        chains.source(desk.state, "inputs.f", "a:log")
    with pytest.raises(WrongInput, match=r"inputs\.f: there is no job 'x' here"):
        chains.source(desk.state, "inputs.f", "x:out")


def test_a_forgotten_job_leaves_no_trace() -> None:
    desk = Desk()
    desk.state.ended_most = 1
    desk.submit("a").submit("b", "a").ends("a").ends("b").submit("c")
    assert desk.state.after == {}
    assert list(desk.state.jobs) == ["c"]
