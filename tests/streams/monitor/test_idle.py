"""When a machine is in use and when it is not: what its worker says, what the hub says, and hubs that say nothing."""

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.protocol import messages as m


def renders(desk: Desk, seconds: float, step: float = 5.0) -> None:
    """The worker answers that it has a task, as often as it is asked."""
    for _ in range(int(seconds / step)):
        desk.passes(step)
        if desk.machine.worker.checking:
            desk.happens(p.HealthAnswer(True, busy=1))


# Our hub


def test_no_drain_is_sent_while_a_lease_is_held() -> None:
    desk = Desk(idle_after=8.0).online()
    for _ in range(10):
        desk.is_idle()
        desk.answers(1)
        asked = len(desk.said(m.TaskQuery))
        desk.passes(4.0)
        assert len(desk.said(m.TaskQuery)) == asked, "its idle time starts again"
    assert "draining" not in desk.states()
    assert not any("draining" in note.text for note in desk.did(p.LogNote))
    desk.is_idle()
    desk.answers(0)
    assert desk.states()[-1] == "draining"
    assert desk.said(m.TaskQuery)[-1].drain is True


def test_a_wake_between_the_question_and_its_answer_keeps_the_machine() -> None:
    desk = Desk(idle_after=60.0).online()
    desk.is_idle()
    desk.happens(p.Wake("job-2"))
    desk.answers(0)
    assert desk.state == "online"


def test_an_unresponsive_hub_is_asked_again() -> None:
    desk = Desk(idle_after=60.0).online()
    desk.is_idle()
    desk.passes(desk.policy.query_timeout)
    assert len(desk.said(m.TaskQuery)) == 2
    desk.answers(0)
    assert desk.state == "draining"


def test_a_worker_with_a_task_is_not_idle_whatever_the_hub_reports() -> None:
    desk = Desk(idle_after=5.0).online()
    renders(desk, 100.0)
    assert desk.state == "online"
    assert not desk.said(m.TaskQuery)
    desk.is_idle()
    desk.answers(0)
    desk.answers(0)
    assert desk.state == "stopping"


def test_the_worker_is_asked_once_more_when_the_idle_time_is_over() -> None:
    desk = Desk(idle_after=65.0, look_online=50.0).online()
    for seconds in (10.0, 50.0):
        desk.passes(seconds)
        desk.happens(p.HealthAnswer(True))
    assert p.CheckHealth() in desk.passes(5.0)
    desk.happens(p.HealthAnswer(True, busy=1))
    assert not desk.said(m.TaskQuery)


def test_the_hub_gets_no_task_only_if_the_worker_reported_it() -> None:
    desk = Desk().draining()
    assert [query.idle for query in desk.said(m.TaskQuery)] == [True, True]
    blind = Desk(checks_health=False).starting()
    blind.reads("running")
    blind.happens(m.Online())
    blind.is_idle()
    assert [query.idle for query in blind.said(m.TaskQuery)] == [None]
    ill = Desk(idle_after=60.0).online()
    ill.passes(60.0)
    ill.happens(p.HealthAnswer(False, "refused"))
    assert [query.idle for query in ill.said(m.TaskQuery)] == [None]


# A deployed hub: it announces nothing and never answers `gpu.task.query`


def test_activity_starts_a_stopped_machine_at_a_deployed_hub_only() -> None:
    for ours, state in ((False, "starting"), (True, "off")):
        desk = Desk(ours=ours).off()
        desk.happens(m.TaskActive(task_id="task-1"))
        assert desk.state == state


@pytest.mark.parametrize("checks_health", [True, False])
def test_at_a_deployed_hub_the_idle_time_alone_stops_the_machine(*, checks_health: bool) -> None:
    desk = Desk(ours=False, idle_after=600.0, checks_health=checks_health).booted()
    if checks_health:
        desk.happens(p.HealthAnswer(True))
    assert desk.state == "online"
    desk.is_idle()
    assert [query.drain for query in desk.said(m.TaskQuery)] == [None]
    desk.passes(desk.policy.query_timeout)
    assert desk.state == "stopping"
    assert len(desk.did(p.Stop)) == 1
    moves = [note.text.split(":")[0] for note in desk.did(p.LogNote) if "->" in note.text]
    assert moves[-2:] == ["online -> draining", "draining -> stopping"]


def test_at_a_deployed_hub_a_machine_with_a_busy_or_unreachable_worker_stays_on() -> None:
    desk = Desk(ours=False, idle_after=60.0).online()
    renders(desk, 1000.0)
    desk.passes(60.0)
    desk.happens(p.HealthAnswer(False, "timeout"))
    desk.passes(desk.policy.query_timeout)
    assert desk.state == "online"
    desk.passes(0.0)
    desk.happens(p.HealthAnswer(True))
    assert desk.state == "stopping"


def test_there_an_answer_counts_if_one_comes_after_all() -> None:
    desk = Desk(ours=False, idle_after=60.0).online()
    desk.is_idle()
    desk.answers(1)
    desk.passes(desk.policy.query_timeout)
    assert desk.state == "online"
    desk.is_idle()
    desk.answers(0)
    assert desk.state == "stopping"


def test_there_a_machine_that_never_came_online_is_stopped_in_the_end() -> None:
    desk = Desk(ours=False, idle_after=900.0, boot_timeout=100.0).booted()
    for _ in range(1200):
        desk.passes(1.0)
        if desk.machine.worker.checking:
            desk.happens(p.HealthAnswer(False, "refused"))
        if isinstance(desk.machine.call, p.Inspect):
            desk.reads("running")
        if desk.did(p.Stop):
            break
    assert desk.did(p.Stop)


@pytest.mark.parametrize("ready", [False, True])
def test_at_a_deployed_hub_an_orphan_is_stopped_without_a_reply(*, ready: bool) -> None:
    desk = Desk(ours=False, orphans="stop")
    desk.reads("running")
    if ready:
        desk.happens(p.HealthAnswer(True))
    desk.passes(1.0)
    assert not desk.did(p.Stop)
    desk.passes(desk.policy.query_timeout)
    assert len(desk.did(p.Stop)) == 1


# Boot requests


def booted_for(desk: Desk) -> list[str | None]:
    return [said.request_id for said in desk.said(m.Booted)]


def boot(request_id: str) -> p.Wake:
    return p.Wake(request_id, boot=True, answer=True)


@pytest.mark.parametrize("ours", [False, True])
def test_every_boot_request_is_answered_by_its_id_when_the_machine_is_up(*, ours: bool) -> None:
    desk = Desk(ours=ours).off()
    desk.happens(boot("b1"))
    desk.taken()
    desk.happens(boot("b2"))
    desk.happens(p.Wake("job-1"))
    desk.happens(boot("b1"))
    desk.reads("running")
    assert booted_for(desk) == ["b1", "b2"]


def test_every_boot_request_gets_the_failure() -> None:
    desk = Desk().off()
    desk.happens(boot("b1"))
    desk.taken()
    desk.happens(boot("b2"))
    desk.reads("failed", "disk is full")
    assert [result.request_id for result in desk.said(m.BootResult)] == ["b1", "b2"]
    desk.happens(LinkUp(frozenset({"power_state"})))
    assert len(desk.said(m.BootResult)) == 2


def test_at_a_deployed_hub_a_boot_request_for_a_machine_that_is_on_is_answered_at_once() -> None:
    desk = Desk(ours=False).online()
    before = len(booted_for(desk))
    desk.happens(boot("b1"))
    desk.happens(boot("b2"))
    desk.passes(desk.policy.answer_every)
    assert booted_for(desk)[before:] == ["b1", "b2"]
    assert {said.msg for said in desk.said(m.Booted)[before:]} == {"the GPU is online"}


def test_a_boot_request_that_comes_while_it_stops_is_answered_after_the_next_start() -> None:
    desk = Desk().stopping()
    desk.happens(boot("b1"))
    desk.reads("stopped")
    assert desk.state == "starting"
    desk.taken()
    desk.reads("running")
    assert booted_for(desk)[-1] == "b1"


def test_a_wake_without_an_id_is_not_answered_with_the_id_of_an_earlier_one() -> None:
    desk = Desk(ours=False).stopping()
    desk.reads("stopped")
    before = len(booted_for(desk))
    desk.happens(p.Wake())
    desk.taken()
    desk.reads("running")
    assert booted_for(desk)[before:] == [None]


@pytest.mark.parametrize("told", [False, True])
def test_a_stop_is_not_repeated_once_the_machine_is_on_for_another_gpu_in_it(told: bool) -> None:
    desk = Desk().stopping()
    desk.happens(p.Taken(desk.call().number))
    if told:
        desk.happens(m.PowerState(gpu="gpu-1", state="starting", msg="its machine is on for the GPU studio"))
    desk.reads("running")
    desk.passes(desk.policy.stop_again + 1.0)
    assert len(desk.did(p.Stop)) == (1 if told else 2)
    assert desk.state == ("booted" if told else "stopping")
