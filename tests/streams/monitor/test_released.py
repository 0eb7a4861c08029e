"""The hub says that a machine gets no more work: its idle time is over, and it is not started without a new wake."""

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.operators.model.ports import PowerState
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.protocol import messages as m


def test_an_idle_machine_is_stopped_at_once_after_worker_and_hub_were_asked() -> None:
    desk = Desk(idle_after=1800.0).online()
    desk.passes(60)
    desk.happens(p.HealthAnswer(True))
    desk.happens(m.Release(gpu="gpu-1", msg="a person turns it off"))
    desk.happens(p.HealthAnswer(True))
    desk.answers(0)
    assert desk.state == "draining"
    assert desk.said(m.PowerState)[-1].msg == "a person turns it off"
    desk.answers(0)
    assert desk.state == "stopping"


def test_a_machine_whose_worker_has_a_task_stays_on_until_its_idle_time_is_over() -> None:
    desk = Desk(idle_after=600.0).online()
    desk.passes(1)
    desk.happens(m.Release(gpu="gpu-1", msg="a person turns it off"))
    desk.happens(p.HealthAnswer(True, busy=1))
    desk.passes(60)
    assert desk.state == "online"
    assert not desk.said(m.TaskQuery)
    desk.passes(540)
    desk.happens(p.HealthAnswer(True))
    desk.answers(0)
    assert desk.state == "draining"
    assert desk.said(m.PowerState)[-1].msg == "no work for 600 s"


def looks(desk: Desk, reading: PowerState, seconds: float) -> None:
    for _ in range(round(seconds / 10)):
        desk.passes(10)
        if isinstance(desk.machine.call, p.Inspect):
            desk.reads(reading)


def test_a_provider_without_capacity_is_not_asked_again_before_the_next_wake() -> None:
    desk = Desk(boot_timeout=600.0).no_capacity()
    desk.happens(m.Release(gpu="gpu-1", msg="no job needs it any more"))
    assert (desk.state, desk.said(m.PowerState)[-1].msg) == ("off", "no job needs it any more")
    looks(desk, "stopped", 700)
    assert (len(desk.did(p.Start)), desk.said(m.BootResult)) == (1, [])
    desk.happens(p.Wake("job-2"))
    assert desk.state == "starting"


def test_a_late_start_is_called_off_when_it_shows_and_not_repeated() -> None:
    desk = Desk(start_within=30.0).starting()
    looks(desk, "stopped", 40)
    desk.happens(m.Release(gpu="gpu-1"))
    assert desk.state == "no_capacity", "the provider may still carry it out"
    desk.reads("starting")
    desk.answers(0)
    assert desk.state == "stopping"


def test_a_start_whose_answer_was_lost_is_over_when_it_does_not_show() -> None:
    desk = Desk().off()
    desk.happens(p.Wake("job-1"))
    desk.fails("no answer", fault="transient")
    desk.happens(m.Release(gpu="gpu-1"))
    looks(desk, "stopped", desk.policy.shows_within + 30)
    assert (desk.state, len(desk.did(p.Start))) == ("off", 1)


def test_a_boot_that_no_job_needs_is_stopped_as_soon_as_it_shows_and_the_hub_agrees() -> None:
    desk = Desk().starting()
    desk.happens(m.Release(gpu="gpu-1", msg="no job needs it any more"))
    assert (desk.state, desk.said(m.TaskQuery)) == ("starting", []), "a stop that comes before the start is lost"
    desk.reads("starting")
    assert desk.said(m.TaskQuery)[-1].drain
    desk.answers(0)
    assert (desk.state, desk.said(m.PowerState)[-1].msg) == ("stopping", "no job needs it any more")
    assert len(desk.did(p.Stop)) == 1


def test_a_provider_that_cannot_stop_a_boot_is_asked_again_when_the_machine_runs() -> None:
    desk = Desk().starting()
    desk.happens(m.Release(gpu="gpu-1"))
    desk.reads("starting")
    desk.answers(0)
    desk.fails("a machine that starts cannot be stopped")
    looks(desk, "starting", 30)
    assert len(desk.did(p.Stop)) == 1
    desk.reads("running")
    assert len(desk.did(p.Stop)) == 2


@pytest.mark.parametrize("state", ["starting", "booted"])
def test_a_boot_that_a_job_holds_by_now_goes_on(state: str) -> None:
    desk: Desk = getattr(Desk(), state)()
    desk.happens(m.Release(gpu="gpu-1"))
    if state == "starting":
        desk.reads("starting")
    desk.answers(1)
    desk.reads("running")
    desk.happens(p.HealthAnswer(True))
    desk.passes(60)
    assert desk.state == "online"
    assert not desk.did(p.Stop)


def test_a_wake_keeps_a_boot_that_was_called_back_before() -> None:
    desk = Desk().starting()
    desk.happens(m.Release(gpu="gpu-1"))
    desk.reads("starting")
    desk.happens(p.Wake("job-2"))
    desk.answers(0)
    desk.passes(60)
    assert (desk.state, desk.did(p.Stop)) == ("starting", [])


def test_a_called_back_machine_that_comes_online_first_does_not_wait_for_the_idle_time() -> None:
    desk = Desk(idle_after=1800.0).starting()
    desk.happens(m.Release(gpu="gpu-1", msg="no job needs it any more"))
    desk.reads("running")
    desk.happens(p.HealthAnswer(True))
    desk.passes(1)
    desk.happens(p.HealthAnswer(True))
    desk.answers(0)
    assert (desk.state, desk.said(m.PowerState)[-1].msg) == ("draining", "no job needs it any more")


def test_a_wake_alone_does_not_hurry_the_next_try() -> None:
    desk = Desk().no_capacity()
    before = desk.machine.boot.retry_at
    desk.happens(p.Wake("job-2"))
    assert desk.machine.boot.retry_at == before
