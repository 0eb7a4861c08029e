"""The hub says that a machine gets no more work: its idle time is over, and it is not started without a new wake."""

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import to_event
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


def test_a_machine_whose_worker_has_a_task_stays_on() -> None:
    desk = Desk(idle_after=1800.0).online()
    desk.passes(1)
    desk.happens(m.Release(gpu="gpu-1"))
    desk.happens(p.HealthAnswer(True, busy=1))
    desk.passes(60)
    assert desk.state == "online"
    assert not desk.said(m.TaskQuery)


def test_the_idle_time_after_a_release_that_found_work_is_named_as_such() -> None:
    desk = Desk(idle_after=60.0).online()
    desk.happens(m.Release(gpu="gpu-1", msg="a person turns it off"))
    desk.happens(p.HealthAnswer(True, busy=1))
    desk.passes(70)
    desk.happens(p.HealthAnswer(True))
    desk.answers(0)
    assert desk.state == "draining"
    assert desk.said(m.PowerState)[-1].msg == "no work for 60 s"


def test_a_machine_without_capacity_is_started_again_only_after_the_next_wake() -> None:
    desk = Desk(boot_timeout=600.0).no_capacity()
    desk.happens(m.Release(gpu="gpu-1"))
    assert desk.said(m.PowerState)[-1].retry_in is None
    for _ in range(30):
        desk.passes(10)
        if desk.machine.call is not None:
            desk.reads("stopped")
    assert len(desk.did(p.Start)) == 1
    desk.happens(p.Wake("job-2"))
    assert desk.said(m.PowerState)[-1].retry_in == desk.policy.capacity.max_delay
    desk.passes(desk.policy.capacity.max_delay)
    assert desk.state == "starting"


def test_a_wake_alone_does_not_hurry_the_next_try() -> None:
    desk = Desk().no_capacity()
    before = desk.machine.boot.retry_at
    desk.happens(p.Wake("job-2"))
    assert desk.machine.boot.retry_at == before


@pytest.mark.parametrize(("gpu", "event"), [("gpu-1", m.Release(gpu="gpu-1")), ("gpu-2", None)])
def test_it_is_for_the_gpu_that_it_names(gpu: str, event: m.Release | None) -> None:
    assert to_event(m.Release(gpu=gpu), "gpu-1") == event
