"""What a client owes its hub: each job is released once, later if need be, and not by a program that only leaves."""

from __future__ import annotations

from pathlib import Path

from wakestream.adapters.memory import MemoryLink
from wakestream.operators.events import Job
from wakestream.streams import messages as m
from wakestream.streams.hub_client import HubClient

JOB = Job("job-1", Path("a.mp4"), Path("a.wav"), Path("out.mp4"))


def connected(*features: str) -> tuple[HubClient, MemoryLink]:
    link = MemoryLink()
    hub = HubClient(link.send, lambda error, _: None)
    link.events.subscribe(hub.feed)
    if features:
        link.connect(*features)
    return hub, link


async def test_a_job_of_an_earlier_run_is_released_when_the_hub_is_there() -> None:
    hub, link = connected()
    hub.farewell("old", cancelled=True)
    hub.farewell("done", cancelled=False)
    assert link.said(m.Cancel) == []
    link.connect("cancel", "done")
    assert link.said(m.Cancel) == [m.Cancel(request_id="old")]
    assert link.said(m.JobDone) == [m.JobDone(request_id="done")]


async def test_a_hub_that_knows_no_such_message_is_told_nothing() -> None:
    hub, link = connected("grant")
    hub.farewell("old", cancelled=True)
    link.disconnect()
    link.connect("grant")
    assert link.said(m.Cancel) == []


async def test_a_program_that_leaves_releases_nothing_any_more() -> None:
    hub, link = connected("cancel", "done")
    hub.submit(JOB)
    hub.leave()
    hub.release(JOB, cancelled=True)
    assert (link.said(m.Cancel), link.said(m.JobDone)) == ([], [])
