"""What a client owes its hub: each job is released once, later if need be, and not by a program that only leaves."""

from dataclasses import replace
from pathlib import Path

from wakestream.adapters.testing.fakes import FakeLink
from wakestream.operators.model.depot import DepotFile, InDepotDone, Places
from wakestream.operators.model.events import Job, Remote, Stored
from wakestream.operators.model.ports import Accepted, Busy, Free, Refused
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

JOB = Job.lipsync("job-1", Path("a.mp4"), Path("a.wav"), Path("out.mp4"))


def connected(*features: str, lasting: bool = False) -> tuple[HubClient, FakeLink]:
    link = FakeLink()
    hub = HubClient(link.send, lambda error, _: None, lasting=lasting)
    link.events.subscribe(hub.feed)
    if features:
        link.connect(*features)
    return hub, link


async def test_a_job_of_an_earlier_run_is_released_when_the_hub_is_there() -> None:
    hub, link = connected()
    hub.end_job("old", cancelled=True)
    hub.end_job("done", cancelled=False)
    assert link.said(m.Cancel) == []
    link.connect("cancel", "done")
    assert link.said(m.Cancel) == [m.Cancel(request_id="old")]
    assert link.said(m.JobDone) == [m.JobDone(request_id="done")]


async def test_a_hub_without_the_feature_gets_no_such_message() -> None:
    hub, link = connected("grant")
    hub.end_job("old", cancelled=True)
    link.disconnect()
    link.connect("grant")
    assert link.said(m.Cancel) == []


def heard(hub: HubClient) -> list[str]:
    """The jobs whose ends the hub keeps."""
    jobs: list[str] = []
    hub.on_released = jobs.append
    return jobs


async def test_an_end_is_settled_only_by_the_hubs_confirmation() -> None:
    hub, link = connected("cancel", "done", "released")
    released = heard(hub)
    hub.end_job("old", cancelled=True)
    hub.end_job("done", cancelled=False)
    link.receive(m.JobReleased(request_id="somebody else's"))
    link.disconnect()
    link.connect("cancel", "done", "released")
    assert link.said(m.JobDone) == [m.JobDone(request_id="done")] * 2
    assert released == []
    link.receive(m.JobReleased(request_id="done"))
    link.receive(m.Error(request_id="old", code="unknown_job"))
    assert released == ["done", "old"]


async def test_a_client_owes_the_hub_the_end_of_a_job_until_that_is_confirmed() -> None:
    hub, link = connected("cancel", "done", "released")
    hub.submit(JOB)
    link.disconnect()
    assert not hub.owes
    hub.release(JOB)
    assert hub.owes
    link.connect("cancel", "done", "released")
    assert hub.owes
    link.receive(m.JobReleased(request_id="job-1"))
    assert not hub.owes


async def test_without_confirmations_a_sent_end_is_settled() -> None:
    hub, link = connected()
    released = heard(hub)
    hub.end_job("old", cancelled=True)
    assert released == []
    link.connect("cancel", "done")
    assert released == ["old"]


async def test_a_daemon_also_releases_jobs_that_it_did_not_submit() -> None:
    for lasting in (True, False):
        hub, link = connected("cancel", "done", lasting=lasting)
        hub.release(JOB)
        assert link.said(m.JobDone) == [m.JobDone(request_id="job-1")] * lasting


async def test_a_stopped_program_releases_nothing() -> None:
    hub, link = connected("cancel", "done")
    hub.submit(JOB)
    hub.stop_releasing()
    hub.release(JOB, cancelled=True)
    assert (link.said(m.Cancel), link.said(m.JobDone)) == ([], [])


def asked(*features: str, lasting: bool = False) -> list[object]:
    """What a hub with these features gets of a job that requires something, and of one with a priority."""
    hub, link = connected("grant", *features, lasting=lasting)
    jobs = replace(JOB, requires=("memory>=24",)), replace(JOB, priority=-1), replace(JOB, priority=5)
    told = answers(hub, JOB)
    for job in jobs:
        hub.submit(job)
    payloads = [{name: submit.payload.get(name) for name in ("requires", "priority")} for submit in link.said(m.Submit)]
    return [*payloads, *(reply.code for reply in told if isinstance(reply, Refused))]


def test_requirements_and_priorities_go_to_hubs_that_know_them() -> None:
    nothing: dict[str, object] = {"requires": None, "priority": None}
    required, low, high = nothing | {"requires": ["memory>=24"]}, nothing | {"priority": -1}, nothing | {"priority": 5}
    assert asked("requires") == asked("requires", "priority", lasting=True) == [required, low, high]
    assert asked() == [nothing, nothing, "unsupported"]
    # To a daemon's own jobs a priority above 0 still gives an order, also where the license allows none.
    assert asked("requires", lasting=True) == [required, low, nothing]


def answers(hub: HubClient, job: Job) -> list[object]:
    """What a job is told."""
    told: list[object] = []
    hub.replies(job).subscribe(told.append)
    return told


async def test_jobs_that_an_old_hub_refuses_while_it_works_at_one_of_the_key_take_turns_as_results_come() -> None:
    hub, link = connected()
    link.connect()
    jobs = [replace(JOB, id=f"job-{number}") for number in (1, 2, 3)]
    told = [answers(hub, job) for job in jobs]
    for job in jobs:
        hub.submit(job)
    link.receive(m.Ack(request_id="job-1"))
    for job in jobs[1:]:
        link.receive(m.Error(request_id=job.id, msg="wait", old_request_id="job-1"))
    assert [each[-1] for each in told] == [Accepted(), Busy(), Busy()]
    for _ in range(2):  # under both its names
        link.receive(m.Result(request_id="job-1", result={}))
    assert [each[-1] for each in told] == [Accepted(), Free(), Busy()]
    hub.submit(jobs[1])
    link.receive(m.Result(request_id="job-2", result={}))
    assert told[2][-1] == Free()


async def test_a_job_that_no_longer_waits_takes_no_turn() -> None:
    hub, link = connected()
    link.connect()
    told = answers(hub, JOB)
    hub.submit(JOB)
    link.receive(m.Error(request_id="job-1", msg="wait", old_request_id="other"))
    hub.release(JOB, cancelled=True)
    link.receive(m.Result(request_id="other", result={}))
    assert told[-1] == Busy()


async def test_a_refusal_of_the_job_itself_is_distinguished() -> None:
    hub, link = connected()
    link.connect()
    told = answers(hub, JOB)
    hub.submit(JOB)
    link.receive(m.Error(request_id="job-1", msg="wait", old_request_id="job-1"))
    assert told[-1] == Busy(own=True)


def test_a_job_that_cannot_take_the_present_state_listens_no_longer() -> None:
    hub, _ = connected()

    def raises(_: object) -> None:
        raise ValueError("observer")

    hub.replies(JOB).subscribe(raises, lambda _: None)
    assert hub.waiting == ()


FILES = (DepotFile("video", "a" * 64, ".mp4", 10),)


def after_reconnect(hub: HubClient, link: FakeLink, *features: str) -> list[str]:
    """What the next connection gets."""
    link.disconnect()
    link.sent.clear()
    link.connect(*features)
    return [message.TYPE for message in link.sent]


def test_each_connection_gets_what_was_last_said_of_a_jobs_files() -> None:
    hub, link = connected("depot", "done")
    hub.submit(JOB)
    hub.offer(JOB, FILES)
    hub.storing(JOB, 5, 2.0)
    offer = d.DepotOffer(request_id="job-1", files=(d.DepotFile(name="video", blake3="a" * 64, ext=".mp4", size=10),))
    assert link.sent[1:] == [offer, d.DepotProgress(request_id="job-1", left=5, rate=2.0)]
    assert after_reconnect(hub, link, "depot", "done") == ["gpu.depot.offer"]
    hub.depot(JOB, "stored")
    assert after_reconnect(hub, link, "depot", "done") == ["gpu.depot.stored"]
    link.receive(d.DepotStored(request_id="job-1"))
    assert after_reconnect(hub, link, "depot", "done") == ["gpu.depot.query"]
    assert after_reconnect(hub, link, "done") == []  # a hub without the feature
    hub.release(JOB)
    assert after_reconnect(hub, link, "depot", "done") == []


def test_a_granted_job_is_not_asked_for_at_the_depot() -> None:
    hub, link = connected("depot", "grant")
    hub.submit(JOB)
    hub.depot(JOB, "withdraw")
    assert after_reconnect(hub, link, "depot", "grant") == ["gpu.depot.withdraw"]
    link.receive(m.Ack(request_id="job-1", gpu="a"))
    assert after_reconnect(hub, link, "depot", "grant") == ["gpu.job.submit"]


def test_without_a_depot_at_the_hub_nothing_is_said_of_it() -> None:
    hub, link = connected("grant")
    hub.offer(JOB, FILES)
    hub.storing(JOB, 5, None)
    hub.depot(JOB, "withdraw")
    assert link.sent == []


def test_what_the_hub_says_of_the_depot_reaches_its_job() -> None:
    hub, link = connected("depot")
    told = answers(hub, JOB)
    place = d.DepotPlace(name="video", blake3="a" * 64, url="https://b/1", parts={"2": "https://b/2"}, part_size=5)
    for message in (
        d.DepotPlaces(request_id="job-1", files=(place,)),
        d.DepotPlaces(request_id="job-1", code="full", reason="no room"),
        d.DepotStored(request_id="job-1", until=7),
        d.DepotProgress(request_id="job-1", step="render", percent=3.0, gpu="a"),
        d.DepotDelivered(request_id="job-1", code="task_failed", reason="no face"),
        d.DepotStored(request_id="job-2"),
    ):
        link.receive(message)
    first = told[1]
    assert isinstance(first, Places)
    assert (first.places[0].url, dict(first.places[0].parts), first.places[0].job) == (
        "https://b/1", {2: "https://b/2"}, "job-1",
    )  # fmt: skip
    assert told[2:] == [
        Places((), "full", "no room"), Stored(0, 7), Remote("render", 3.0, "a"),
        InDepotDone((), None, "task_failed", "no face"),
    ]  # fmt: skip
    assert "https" not in repr(first)
