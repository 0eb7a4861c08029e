"""Jobs that have results of other jobs as inputs: when they start, and what ends them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest
from msgspec.structs import replace

from tests.streams.outbox import test_outbox as outbox_desk
from tests.support.streams.submitting import submitting
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WrongInput
from wakestream.streams.outbox import chains, outbox, state
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import job_of

TEXT = f.FileStat("/in/a.txt", 10, 1)


class Desk(outbox_desk.Desk):
    """The jobs of an outbox copy the results of others."""

    def __init__(self) -> None:
        super().__init__(webhook=True)

    def submit(self, job: str, *after: str, retry_of: str = "", result: str = "out") -> Self:
        inputs = {f"f{number}": f.FileStat(f"/out/{one}.bin", 0, 0) for number, one in enumerate(after)} or {
            "text": TEXT
        }
        sources = {f"f{number}": f"{one}:{result}" for number, one in enumerate(after)}
        outputs = {"out": f"/out/{job}.bin", "log": f"/out/{job}.txt"}
        return self.happens(
            submitting(1, job, inputs, outputs, "copy", retry_of=retry_of, after=after, sources=sources)
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


def test_a_job_that_names_another_twice_is_refused_by_the_name_of_the_field() -> None:
    desk = Desk().submit("a").submit("b", "a", "a")
    (answer,) = (command for command in desk.commands if isinstance(command, f.Answer))
    assert (answer.status, answer.code) == (400, "bad_request")
    assert '"after"' in answer.reason
    assert "b" not in desk.state.jobs


def test_a_journal_of_an_earlier_version_may_have_a_job_that_names_another_twice() -> None:
    desk = Desk().submit("a")
    first = submitting(1, "b", {"text": TEXT}, {"out": "/out/b.bin"}, "copy", after=("a",)).asked
    for fact in (replace(first, after=("a", "a")), f.JobEnded("b", "cancelled", 2.0)):
        outbox.DECIDER.evolve(desk.state, fact)
    assert (desk.state.jobs["b"].state, desk.state.after) == ("cancelled", {})


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


def test_a_result_is_named_by_its_job_and_its_name_or_the_main_one_by_the_job() -> None:
    desk = Desk().submit("a").ends("a")
    assert chains.source(desk.state, "inputs.f", "a:out") == chains.source(desk.state, "inputs.f", "a")
    with pytest.raises(WrongInput, match=r"inputs\.f: job a has no result 'mask'; it has out, log"):
        chains.source(desk.state, "inputs.f", "a:mask")
    with pytest.raises(WrongInput, match=r"inputs\.f: there is no job 'x' here"):
        chains.source(desk.state, "inputs.f", "x:out")


def of_list(*names: str) -> e.Done:
    """The end of a job whose result `out` is a list."""
    files = tuple(e.ResultFile(name, Path(f"/out/{name}.png"), 5) for name in names)
    return e.Done(files[0].path, 5, files)


def handed_on(desk: Desk, job: str) -> dict[str, str]:
    return {name: path.stem for name, path in job_of(desk.state.jobs[job], desk.state.jobs).inputs.items()}


def test_a_result_of_several_files_is_handed_on_as_a_list_and_one_of_them_by_its_place() -> None:
    desk = Desk().submit("a").submit("all", "a").submit("second", "a", result="out[1]").submit("main", "a", result="")
    assert desk.ends("a", of_list("out", "out_2", "out_3")).of(f.Start) == ["all", "second", "main"]
    assert handed_on(desk, "all") == {"f0": "out", "f0_2": "out_2", "f0_3": "out_3"} == handed_on(desk, "main")
    assert handed_on(desk, "second") == {"f0": "out_2"}
    assert chains.source(desk.state, "inputs.f", "a:out") == ("a", "/out/out.png", False), "found when the job starts"
    assert chains.source(desk.state, "inputs.f", "a:out[2]") == ("a", "/out/out_3.png", True)
    with pytest.raises(WrongInput, match=r"job a has no result 'out\[3\]'"):
        chains.source(desk.state, "inputs.f", "a:out[3]")


def test_a_list_of_two_results_has_the_files_of_both_in_order() -> None:
    desk = Desk().submit("a").submit("b")
    files = {name: f.FileStat("/out/x.png", 0, 0) for name in ("images", "images_2")}
    sources = {"images": "a:out", "images_2": "b:out"}
    desk.happens(submitting(1, "c", files, {"out": "/out/c"}, "join", after=("a", "b"), sources=sources))
    desk.ends("a", of_list("out", "out_2")).ends("b", of_list("out"))
    assert handed_on(desk, "c") == {"images": "out", "images_2": "out_2", "images_3": "out"}
    desk.says(e.Fingerprinted(tuple(e.Fingerprint(Path(one), 5, 1, {"blake3": one}) for one in "123")), "c")
    read = desk.state.jobs["c"].read
    assert read is not None
    assert {name: digests["blake3"] for name, digests in read.inputs.items()} == {
        "images": "1", "images_2": "2", "images_3": "3",
    }  # fmt: skip


def test_a_job_ends_whose_place_of_a_list_was_not_made() -> None:
    desk = Desk().submit("a").submit("b", "a", result="out[4]").ends("a", of_list("out", "out_2"))
    ended = desk.state.jobs["b"].ended
    assert ended is not None
    assert (ended.code, desk.of(f.Start)) == ("after_failed", [])
    assert ended.why == "job a, whose result it needs, has made no such file"


@pytest.mark.parametrize("path", ["/out/a.bin", "/out/a-2.bin"])
def test_a_job_is_not_forgotten_while_an_open_job_needs_its_result(path: str) -> None:
    desk = Desk()
    desk.state.ended_most = 1
    desk.submit("a").submit("x").submit("b", "a", "x").ends("a", e.Done(Path(path), 5))
    for job in "cd":
        desk.submit(job).ends(job)
    desk.restart().state.ended_most = 1
    desk.ends("x")
    assert desk.of(f.Start) == ["b"]
    assert job_of(desk.state.jobs["b"], desk.state.jobs).inputs["f0"] == Path(path)
    assert desk.submit("a").answer == (200, ""), "its id is not free for a job that b would wait for"
    assert list(desk.ends("b").submit("e").state.jobs) == ["e"]
    assert list(desk.ends("e").submit("g", "e").state.jobs) == ["e", "g"]


def test_a_job_after_one_that_was_forgotten_in_the_meantime_is_refused() -> None:
    desk = Desk().submit("b", "a")
    assert (desk.answer, desk.facts) == ((404, "unknown_job"), [])


def test_a_result_that_was_not_made_ends_the_jobs_that_need_it() -> None:
    desk = Desk().submit("a").submit("b", "a", result="log").submit("c", "b").submit("d", "a")
    done = e.Done(Path("/out/a.bin"), 5, (e.ResultFile("out", Path("/out/a.bin"), 5),), ("log",))
    assert desk.ends("a", done).of(f.Start) == ["d"]
    assert desk.of(f.Tell) == ["a", "b", "c"]
    ended = desk.state.jobs["b"].ended
    assert ended is not None
    assert (ended.code, ended.why) == ("after_failed", "job a, whose result it needs, has made no log")
    with pytest.raises(WrongInput, match=r"job a has no result 'log'; it has out"):
        chains.source(desk.state, "inputs.f", "a:log")


def test_a_job_is_looked_for_while_others_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API looks for it in another thread."""
    desk = Desk().submit("a").submit("b")
    monkeypatch.setattr(state, "_shortens", lambda _, job: desk.submit(f"{job}-2") is None)
    assert desk.state.named("x") == []
