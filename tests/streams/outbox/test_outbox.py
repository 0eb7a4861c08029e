"""The outbox's decisions: what is accepted, stored and sent."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from msgspec.structs import replace

from tests.support.streams.submitting import submitting
from wakestream.operators.lifecycle.reuse import OWN
from wakestream.operators.model import events as e
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.state import TWINS, Entry, OutboxState, job_of, plain_outcome

VIDEO, AUDIO = f.FileStat("/in/a.mp4", 10, 1), f.FileStat("/in/a.wav", 20, 2)
WORKER = e.Online("http://gpu:8383")
TASK = e.Submitted(WORKER, "task-1")


class Desk:
    """An outbox to which things happen one after another; what was decided last stays to be looked at."""

    def __init__(self, **limits: Any) -> None:
        self.state = OutboxState(**limits)
        self.facts: list[f.OutboxFact] = []
        self.commands: list[f.OutboxCommand] = []
        self.kept: list[f.OutboxFact] = []
        self.now = 100.0

    def happens(self, event: f.OutboxEvent) -> Self:
        self.now += 1
        facts, commands = outbox.DECIDER.step(self.state, event, self.now)
        self.facts, self.commands = list(facts), list(commands)
        self.kept += facts
        return self

    def submit(self, job: str = "a", output: str | None = None, **fields: Any) -> Self:
        inputs = {name: fields.pop(name, usual) for name, usual in (("video", VIDEO), ("audio", AUDIO))}
        return self.happens(submitting(1, job, inputs, {"video": output or f"/out/{job}.mp4"}, **fields))

    def says(self, event: e.JobEvent, job: str = "a", mtime_ns: int = 0) -> Self:
        return self.happens(f.Happened(job, event, mtime_ns))

    def cancel(self, job: str = "a") -> Self:
        return self.happens(f.Cancelling(1, job))

    @property
    def answer(self) -> tuple[int, str]:
        found = [command for command in self.commands if isinstance(command, f.Answer)]
        assert len(found) == 1
        return found[0].status, found[0].code


def test_a_job_is_accepted_before_it_is_answered_and_started() -> None:
    desk = Desk().submit(priority=3)
    assert desk.facts == [
        f.JobAccepted("a", "/in/a.mp4", "/in/a.wav", "/out/a.mp4", 10, 1, 20, 2, "heygem_submit", 3, 101.0)
    ]
    assert desk.commands == [f.Answer(1, 201, "a"), f.Start("a")]
    job = e.Job.lipsync("a", Path("/in/a.mp4"), Path("/in/a.wav"), Path("/out/a.mp4"))
    assert job_of(desk.state.jobs["a"]) == dataclasses.replace(job, priority=3)


def test_the_same_id_again_gets_the_same_answer_and_starts_nothing() -> None:
    desk = Desk().submit().submit()
    assert (desk.facts, desk.commands) == ([], [f.Answer(1, 200, "a")])
    written_to = f.FileStat(VIDEO.path, 11, 5)
    assert desk.submit(video=written_to).answer == (200, "")


def test_an_end_names_the_source_of_a_reused_result() -> None:
    done = e.Done(Path("/out/a.mp4"), 7)
    same = e.Note("the same work was done before", {"same_as": "old"})
    for events, whose in (([same], "old"), ([e.Submitted(WORKER, "t", cached=True)], "the worker"), ([TASK], "")):
        desk = Desk().submit()
        for event in (*events, done):
            desk.says(event)
        ended = desk.state.jobs["a"].ended
        assert ended is not None
        assert (ended.reused, plain_outcome(ended).get("reused", "")) == (whose, whose)


@pytest.mark.parametrize(
    "fields", [{"output": "/out/other.mp4"}, {"video": f.FileStat("/in/b.mp4", 1, 1)}, {"task_type": "other"}]
)
def test_other_fields_under_a_known_id_are_a_conflict(fields: dict[str, Any]) -> None:
    desk = Desk().submit().submit(**fields)
    assert (desk.answer, desk.facts) == ((409, "conflict"), [])


def test_jobs_of_a_batch_count_after_they_are_forgotten_but_for_those_that_were_tried_again() -> None:
    desk = Desk(ended_most=2).submit("open", batch="rows")
    done, failed = e.Done(Path("/out/x.mp4"), 5), e.Failed("no")
    for job, end, retry_of in (("a", done, ""), ("b", failed, ""), ("c", done, "b"), ("d", failed, "")):
        desk.submit(job, batch="rows", retry_of=retry_of).says(end, job)
    assert desk.state.forgotten == {"rows": (1, 1)}, "a, and of b its repetition counts"
    desk.submit("e", batch="rows").submit("other").says(done, "other").submit("last")
    assert desk.state.forgotten == {"rows": (3, 2)}
    desk.says(failed, "open").says(failed, "e")
    for job in "fgh":
        desk.submit(job).says(failed, job)
    assert desk.state.forgotten == {}, "no job of the batch is known"


def test_a_job_that_is_forgotten_when_it_is_tried_again_counts_once() -> None:
    desk = Desk(ended_most=1).submit("open", batch="rows").submit("a", batch="rows").says(e.Failed("no"), "a")
    desk.submit("b", batch="rows", retry_of="a")
    assert (list(desk.state.jobs), desk.state.forgotten) == (["open", "b"], {"rows": (0, 0)})


def test_the_stage_is_stored_only_when_it_changes() -> None:
    desk = Desk().submit()
    assert [fact.stage for fact in desk.says(e.Queued()).facts if isinstance(fact, f.JobStage)] == ["wake"]
    assert desk.says(e.Waking(10.0)).says(e.Waking(20.0)).facts == []
    own: dict[str, Any] = {"worker": "http://gpu:8383", "task": "task-1", "reused": OWN}
    assert desk.says(TASK).facts == [f.JobStage("a", "render", desk.now, **own)]
    assert desk.says(e.Running(50.0)).facts == []
    desk.says(e.Rendered(TASK)).says(e.Downloading(0, 500))
    assert desk.facts == [f.JobStage("a", "download", desk.now, size=500, **own)]
    assert desk.says(e.Downloading(400, 500)).says(e.Note("hm")).facts == []
    assert desk.says(e.Queued()).facts == [f.JobStage("a", "wake", desk.now, reused=OWN)]


def test_an_end_that_is_in_the_journal_twice_is_the_first_one() -> None:
    desk = Desk().submit().says(e.Done(Path("/out/a.mp4"), 5))
    outbox.DECIDER.evolve(desk.state, f.JobEnded("a", "failed", 0.0))
    assert desk.state.jobs["a"].state == "done"


def test_after_a_restart_every_unfinished_job_runs_again_and_a_cancel_is_carried_out() -> None:
    desk = Desk().submit("a").submit("b").submit("c").submit("d")
    desk.says(TASK, "b").cancel("b").cancel("d").says(e.Failed("no"), "c")
    again = Desk()
    again.state = outbox.DECIDER.recover(desk.kept)
    again.happens(f.DaemonStarted())
    assert again.facts == []
    released = f.Release("c", False)  # the hub may not know its end
    assert again.commands == [
        f.Start("a"),
        f.CancelNotice("b", "http://gpu:8383", "task-1"),
        f.CancelNotice("d"),
        released,
    ]


def names(twins: list[Entry]) -> list[str]:
    return [twin.accepted.job for twin in twins]


def read_as(video: str, audio: str = "11", mtime_ns: int = VIDEO.mtime_ns) -> e.Fingerprinted:
    files = ((VIDEO, video, mtime_ns), (AUDIO, audio, AUDIO.mtime_ns))
    return e.Fingerprinted(
        tuple(e.Fingerprint(Path(look.path), look.size, at, {"blake3": digest}) for look, digest, at in files)
    )


def test_or_of_the_same_content_under_other_names_and_those_that_nobody_has_read_may_be() -> None:
    desk = (
        Desk()
        .submit("a")
        .submit("b", video=f.FileStat("/in/b.mp4", 10, 9))
        .submit("mov", video=f.FileStat("/a.mov", 10, 1))
    )
    desk.submit("c", video=f.FileStat("/in/c.mp4", 10, 9))
    jobs = desk.state.jobs
    assert names(desk.state.of_same_sizes(jobs["c"])) == ["a", "b"]
    desk.says(read_as("00"), "a").says(read_as("22"), "b").says(read_as("00"), "mov")
    assert names(desk.state.of_same_sizes(jobs["c"])) == []
    assert names(desk.state.of_content(jobs["c"], ("11", "00"))) == ["a"]
    assert names(desk.state.of_content(jobs["c"], ("11", "22"))) == ["b"]
    desk.says(read_as("33"), "a")
    assert names(desk.state.of_content(jobs["c"], ("11", "00"))) == []


class Counted(dict[str, Entry]):
    """Counts how many jobs are looked at."""

    looks = 0

    def __getitem__(self, job: str) -> Entry:
        self.looks += 1
        return super().__getitem__(job)

    def values(self) -> Any:
        raise AssertionError("all jobs are looked at")


@pytest.mark.parametrize("ended", [False, True])
def test_a_job_costs_the_same_with_a_hundred_and_with_thousands_of_the_same_size(ended: bool) -> None:
    looks, decider = {}, outbox.DECIDER
    for count in (100, 3000):
        state = OutboxState(ended_most=count)
        for number in range(count):
            job = f"{number:04}"
            decider.evolve(
                state,
                f.JobAccepted(job, f"/{job}.mp4", "/a.wav", f"/{job}.out", 10, 1, 20, 2, "heygem_submit", 0, number),
            )
            if ended:
                decider.evolve(state, f.JobEnded(job, "cancelled", number))
        jobs = state.jobs = Counted(state.jobs)
        submitted = submitting(1, "last", {"video": VIDEO, "audio": AUDIO}, {"video": "/out/last.mp4"})
        for fact in decider.decide(state, submitted, 9e9)[0]:
            decider.evolve(state, fact)
        assert state.alone(jobs["last"]) is ended
        assert len(state.of_same_sizes(jobs["last"])) == (0 if ended else TWINS)
        for event in (f.Happened("last", read_as("00")), f.Cancelling(1, "last"), f.Happened("last", e.Cancelled())):
            for fact in decider.decide(state, event, 9e9)[0]:
                decider.evolve(state, fact)
        looks[count] = jobs.looks
    assert looks[100] == looks[3000] <= 2 * TWINS + 20


def test_files_that_were_written_to_before_they_were_read_are_not_what_was_accepted() -> None:
    desk = Desk().submit("a").submit("b")
    desk.says(read_as("00"), "a").says(read_as("00", mtime_ns=99), "b")
    assert desk.state.jobs["a"].read_as_accepted
    assert not desk.state.jobs["b"].read_as_accepted


IMAGE = {"image": f.FileStat("/in/a.png", 10, 1)}


def any_kind(desk: Desk, job: str, *, kind: str = "upscale", output: str = "", **params: Any) -> Desk:
    outputs = {"image": output or f"/out/{job}.png", "log": f"/out/{job}.txt"}
    return desk.happens(submitting(1, job, IMAGE, outputs, kind, params))


def test_a_job_of_any_kind_keeps_its_files_parameters_and_outputs() -> None:
    desk = any_kind(Desk(), "a", scale=2)
    assert desk.answer == (201, "")
    again = outbox.DECIDER.restore(outbox.DECIDER.snapshot(desk.state))
    for state in (desk.state, again):
        assert job_of(state.jobs["a"]) == e.Job(
            "a", {"image": Path("/in/a.png")}, {"image": Path("/out/a.png"), "log": Path("/out/a.txt")}, "upscale",
            {"scale": 2},
        )  # fmt: skip
    assert any_kind(desk, "a", scale=2).answer == (200, "")
    assert any_kind(desk, "a", scale=3).answer == (409, "conflict")
    assert any_kind(desk, "a", kind="paint", scale=2).answer == (409, "conflict")


def test_a_job_without_files_was_read_with_none() -> None:
    read = f.JobRead("a", {}, {}, 0, 0)
    assert (read.inputs, read.mtimes_ns) == ({}, {})


def test_facts_of_a_pair_from_0_1_0_have_the_form_of_all_jobs() -> None:
    old = msgspec.json.encode({
        "job": "a", "video": "/in/a.mp4", "audio": "/in/a.wav", "output": "/out/a.mp4", "video_size": 10,
        "video_mtime_ns": 1, "audio_size": 20, "audio_mtime_ns": 2, "task_type": "x", "priority": 3, "at": 101.0,
    })  # fmt: skip
    asked = submitting(1, "a", {"video": VIDEO, "audio": AUDIO}, {"video": "/out/a.mp4"}, task_type="x", priority=3)
    accepted = msgspec.json.decode(old, type=f.JobAccepted)
    assert accepted == replace(asked.asked, at=101.0)
    assert (accepted.kind, accepted.old_shape, job_of(Entry(accepted)).task_type) == ("lipsync", True, "x")
    plain = {"job": "a", "video": {"md5": "1"}, "audio": {"md5": "2"}, "video_mtime_ns": 1, "audio_mtime_ns": 2}
    read = msgspec.convert(plain, f.JobRead)
    assert read == f.JobRead(
        "a", inputs={"video": {"md5": "1"}, "audio": {"md5": "2"}}, mtimes_ns={"video": 1, "audio": 2}
    )


def of_kind(
    desk: Desk, job: str, kind: str, params: dict[str, Any] | None = None, outputs: tuple[str, ...] = ("out",)
) -> None:
    results = {name: f"/out/{job}.{name}" for name in outputs}
    desk.happens(submitting(1, job, {"image": VIDEO}, results, kind, params))


def test_twins_of_any_kind_have_the_same_kind_parameters_and_results() -> None:
    desk = Desk()
    of_kind(desk, "a", "upscale", {"scale": 2, "seed": 1})
    of_kind(desk, "other-kind", "invert", {"scale": 2, "seed": 1})
    of_kind(desk, "other-param", "upscale", {"scale": 3, "seed": 1})
    of_kind(desk, "more", "upscale", {"scale": 2, "seed": 1}, ("out", "log"))
    of_kind(desk, "b", "upscale", {"seed": 1, "scale": 2})
    jobs = desk.state.jobs
    assert names(desk.state.of_same_files(jobs["b"])) == ["a"]
    assert all(desk.state.alone(jobs[job]) for job in ("other-kind", "other-param", "more"))
    desk.says(e.Fingerprinted((e.Fingerprint(Path("/in/a.mp4"), 10, 1, {"blake3": "00"}),)), "a")
    assert names(desk.state.of_content(jobs["b"], ("00",))) == ["a"]


def test_a_job_whose_input_is_not_there_yet_has_no_twin() -> None:
    desk = Desk()
    for job in ("a", "b"):
        inputs = {"image": f.FileStat("/out/x.png", 0, 0)}
        desk.happens(submitting(1, job, inputs, {"out": f"/out/{job}.png"}, "upscale"))
    assert desk.state.alone(desk.state.jobs["b"])
