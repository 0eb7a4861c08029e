"""One sentence on why a job waits or a GPU is on, from facts."""

import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.cli.commands import why as why_words
from wakestream.adapters.cli.i18n import choose
from wakestream.adapters.cli.render import status_text
from wakestream.operators.model import events as e
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import ON_THE_WAY, UPLOADED
from wakestream.streams.recording.event_json import plain_event

UNTIL = int(datetime.datetime(2026, 3, 11).timestamp())
SPENT = {"period": "day", "limit": 2.0, "spent": 2.1, "left": 0.0, "until": UNTIL}
TURN = "waiting for a turn to download: 2 jobs are at it, 5 come before this one"


def job(last: e.JobEvent | None = None, **more: Any) -> dict[str, Any]:
    found = {"id": "ws-1", "state": "open", "accepted_at": 100.0, "outcome": None}
    return {**found, "last": plain_event(last) if last else None, **more}


def status(gpu: dict[str, Any], **more: Any) -> m.HubStatus:
    return m.HubStatus(request_id="q", gpus=({"gpu": "studio", **gpu},), **{"monitors": 1, **more})


def test_an_unknown_end_of_a_wait_is_not_estimated() -> None:
    soon = e.Eta(5, 20)
    for phase in ("hub_lost", "no_monitor", "no_capacity"):
        assert "usually" not in why_words.job(job(e.Waking(42.0, phase, 1, soon)), 190.0)
    assert "usually" in why_words.job(job(e.Waking(42.0, "booting", 1, soon)), 190.0)


def test_a_wait_grows_and_its_estimate_shrinks_with_time() -> None:
    waiting = job(e.Waking(10.0, "booting", 1, e.Eta(45, 60)))
    said = why_words.job(waiting | {"last": {**waiting["last"], "at": 182.0}}, 190.0)
    assert "has waited for the GPU for 18 s: " in said
    assert "(usually 37 s more, rarely over 52 s)" in said
    once = why_words.job(job(e.Waking(42.0, "booting", 1, e.Eta(45, 45))), 190.0)
    assert "more)" in once
    assert "rarely" not in once
    assert "usually" not in once
    queued = job(e.Queued(1, "booting", e.Eta(45, 60)))
    said = why_words.job(queued | {"last": {**queued["last"], "at": 182.0}}, 190.0)
    assert "(usually 37 s more, rarely over 52 s)" in said


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "ComfyUI is not ready: node X is missing; install the custom nodes of the workflow"), ("zh", "缺少节点 X")],
)
def test_an_engine_that_is_not_ready_is_said_with_its_reason(language: str, words: str) -> None:
    why = "ComfyUI is not ready: node X is missing; install the custom nodes of the workflow"
    answer = status({"phase": "not_ready", "why": why}, queue=1, monitors=0)
    choose(language)
    try:
        said = [why_words.job(job(e.Waking(42.0, "not_ready", 1, why=why)), 190.0)]
        said += [*why_words.gpus(answer), *status_text.status(answer)]
    finally:
        choose("en")
    assert sum(words in line for line in said) == 3, said


def test_a_gpu_that_cannot_do_the_waiting_jobs_is_not_said_to_be_asked_for_them() -> None:
    studio, attic = {"gpu": "studio", "phase": "off", "waiting": 1}, {"gpu": "attic", "phase": "off", "waiting": 0}
    answer = m.HubStatus(request_id="q", gpus=(studio, attic), queue=2, monitors=2)
    first, second = why_words.gpus(answer)
    assert "although 1 job is waiting" in first
    assert second == "GPU attic is off; 2 jobs are waiting for other GPUs"


def test_a_gpu_that_the_budget_keeps_off_says_until_when() -> None:
    said = "GPU studio is off although 1 job is waiting: the budget is spent; it can be started at 2026-03-11 00:00"
    assert why_words.gpus(status({"phase": "off"}, queue=1, budgets=(SPENT,))) == [said]
    other = status({"phase": "off"}, queue=1, budgets=({**SPENT, "gpu": "lab"},))
    assert "budget" not in why_words.gpus(other)[0]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (job(), "ws-1 is waiting for its turn, submitted 1 min 30 s ago"),
        (job(e.Waking(42.0, "no_capacity")), "ws-1 has waited for the GPU for 42 s: no GPU available*"),
        (job(e.Waking(42.0, "no_capacity", retry_in=40.0)), "*no GPU available; next try in 40 s"),
        (job(e.Waking(42.0, "no_capacity", retry_in=0.0)), "*no GPU available; the monitor keeps trying"),
        (job(e.Uploading(5, 10)), "ws-1 is running, submitted 1 min 30 s ago: uploading 50 % (5 B of 10 B)"),
        (
            job(e.Retrying(2, 4.0, "the line broke")),
            "ws-1 is being retried: the line broke; trying again in 4.0 s (attempt 2)",
        ),
        (job(state="cancelling"), "ws-1 is being cancelled"),
        (
            job(state="done", outcome=plain_event(e.Done(Path("out.mp4"), 1000))),
            "ws-1 has ended: done: out.mp4 (1.0 kB)",
        ),
        (
            job(e.Queued(2, "booted", None)),
            "ws-1 is waiting for the GPU: job queued, position 2; the machine is up, its worker is starting",
        ),
        (
            job(e.Note(TURN, {"waits": "to download"})),
            f"ws-1 is waiting for its turn, submitted 1 min 30 s ago: {TURN}",
        ),
        (
            job(e.Running(0.0, "queued", position=2)),
            "ws-1 is waiting for its turn, submitted 1 min 30 s ago: queued at the worker, position 2",
        ),
        (
            job(e.Waking(42.0, "budget", 1, until=UNTIL)),
            "*the budget is spent, so no GPU is started before 2026-03-11 00:00, position 1",
        ),
        (
            job(e.Queued(1, "budget", until=UNTIL)),
            "*job queued, position 1; the budget is spent, so no GPU is started before 2026-03-11 00:00",
        ),
        (job(e.Note("the depot is not used: it is full", {"direct": "?"})), "ws-1 is waiting for the GPU: *"),
        (
            job(e.Remote("wait", gpu="studio")),
            "ws-1 is running, submitted 1 min 30 s ago: studio has the job; this PC is not needed",
        ),
        (job(last=None) | {"last": {"event": "levitating"}}, "*unknown activity (levitating), from a newer version*"),
    ],
)
def test_a_job(found: dict[str, Any], said: str) -> None:
    """All that is said, where `*` stands for any words."""
    assert fnmatchcase(why_words.job(found, 190.0), said)


def planned(phase: str, do: str, in_s: float | None = None, **more: Any) -> m.HubStatus:
    plan = {"do": do, "in_s": in_s, "why": "of a later version"}
    return status({"phase": phase, "plan": plan, **more}, queue=1, currency="EUR")


def test_a_gpu_that_is_off_while_jobs_wait_at_the_worker_of_another_one_says_so() -> None:
    busy = {"gpu": "lab", "phase": "online", "own": 2, "others": 18, "slots": 2}
    answer = m.HubStatus(request_id="q", gpus=(busy, {"gpu": "studio", "phase": "off"}), monitors=2)
    assert why_words.gpus(answer, "studio") == ["GPU studio is off; 18 jobs are waiting for other GPUs"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status({"phase": "online", "own": 1, "others": 2}), "on because 3 jobs are using it, 1 of them yours"),
        (status({"phase": "online", "own": 0, "others": 1}), "on because 1 job is using it, which is not yours"),
        (status({"phase": "online", "own": 1, "others": 0}), "on because 1 job is using it, which is yours"),
        (status({"phase": "online"}), "on but not in use; it stops when the monitor's idle time has passed"),
        (
            status({"phase": "booted", "why": "up"}, queue=1),
            "on, but its worker is not ready yet: 1 job is waiting for it",
        ),
        (status({"phase": "off"}), "off because no job needs it"),
        (
            status({"phase": "off"}, queue=2, monitors=0),
            "off although 2 jobs are waiting: its monitor is not connected",
        ),
        (
            status({"phase": "off", "watched": False}, queue=2),
            "off although 2 jobs are waiting: its monitor is not connected",
        ),
        (
            status({"phase": "failed", "watched": False}, queue=1),
            "1 job is waiting for it; its monitor is not connected",
        ),
        (status({"phase": "off"}, queue=2), "the monitor has been asked to start it"),
        (status({"phase": "off"}, queue=1, monitors=0), "off although 1 job is waiting: its monitor is not connected"),
        (status({"phase": "off"}, queue=1), "off although 1 job is waiting: the monitor has been asked to start it"),
        (status({"phase": "starting"}, queue=1), "is being started: 1 job is waiting for it"),
        (
            status({"phase": "lost", "why": "it broke"}, queue=2),
            "studio is disconnected (it broke): 2 jobs are waiting for it",
        ),
        (
            status({"phase": "lost"}, queue=1, monitors=0),
            "disconnected: 1 job is waiting for it; its monitor is not connected",
        ),
        (status({"phase": "no_capacity", "why": "sold out"}), "is not available at the provider (sold out)"),
        (status({"phase": "off", "waiting": 0}, queue=2), "GPU studio is off; 2 jobs are waiting for other GPUs"),
        (
            planned("off", "wake", 40.0, price_per_hour=1.5),
            "GPU studio (1.50 EUR per hour) is off; it is started in 40 s, unless another GPU gets free before",
        ),
        (
            planned("starting", "wake", price_per_hour=1.5),
            "(1.50 EUR per hour) is being started: 1 job is waiting for it; it is coming for jobs that wait",
        ),
        (planned("online", "stop"), "; it is stopped: another GPU is free too, and no job waits"),
        (planned("starting", "call_back"), "; its start is called back: no job needs it any more"),
        (planned("paused", "held"), "; it is held for maintenance; `wakestream gpu resume studio` ends that"),
        (planned("failed", "backed_off", 90.0), "; for 1 min 30 s more it is started only if no other GPU can do"),
        (planned("online", "keep"), "is on but not in use; it stops when the monitor's idle time has passed"),
        (
            status({"phase": "off"}, queue=2, expected=({"kind": "lipsync", "jobs": 2},)),
            "off although 2 jobs are waiting: the GPUs that are on, or coming, start the work soon enough",
        ),
        (planned("off", "levitate"), "GPU studio is off; of a later version"),
    ],
)
def test_a_gpu(answer: m.HubStatus, said: str) -> None:
    (sentence,) = why_words.gpus(answer)
    assert said in sentence
    assert why_words.gpus(answer, "another") == []


def test_a_job_whose_files_go_into_the_depot_says_what_it_waits_for() -> None:
    def said(last: e.JobEvent) -> str:
        return why_words.job(job(last), 190.0).partition(": ")[2]

    assert said(e.Waking(9.0, "queued", 1, why=ON_THE_WAY)) == "its files are on the way to the depot, position 1"
    later = f"studio is started in 50 s, {UPLOADED}"
    assert said(e.Waking(9.0, "booting", 1, why=later)) == f"{later}, position 1"
    for stored in (e.Stored(9), e.Remote("wait")):
        assert why_words.job(job(stored), 190.0) == (
            "ws-1 is waiting for the GPU: the files are in the depot and wait for a GPU; this PC is not needed"
        )
    for here in (e.Stored(9, local=True), e.Remote("wait", local=True)):
        assert said(here) == "the files are in the depot and wait for a GPU; leave this PC on"


def test_a_gpu_that_is_held_says_so_once() -> None:
    held = status({"phase": "paused", "why": "it is held for maintenance (by ann)", "plan": {"do": "held"}})
    assert why_words.gpus(held) == ["GPU studio is on, but paused (it is held for maintenance (by ann))"]


@pytest.mark.parametrize(
    ("depot", "said"),
    [
        ({"storing": 1}, "GPU studio is off: it is started when the files of 1 job are nearly in the depot"),
        ({"away": 1}, "GPU studio is off: 1 job not yet in the depot, and the PC that has the files is not connected"),
        ({"stored": 1}, "GPU studio is off although 1 job is waiting: the monitor has been asked to start it"),
    ],
)
def test_a_gpu_that_is_off_while_files_go_into_the_depot_says_so(depot: dict[str, int], said: str) -> None:
    told = {"up": True, "storing": 0, "away": 0, "stored": 0, **depot}
    assert why_words.gpus(status({"phase": "off", "waiting": 1}, queue=1, depot=told)) == [said]
