"""A machine with several GPUs, of one monitor or of one monitor each."""

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import to_event
from wakestream.streams.protocol import messages as m

ELSEWHERE = m.PowerState(gpu="gpu-1", state="starting")


def test_a_start_by_another_monitor_is_followed_and_is_no_machine_without_a_request() -> None:
    desk = Desk(orphans="stop").off()
    desk.happens(ELSEWHERE)
    desk.reads("stopped")
    desk.passes(desk.policy.look_soon)
    desk.reads("running")
    desk.happens(p.HealthAnswer(True))
    assert (desk.state, desk.machine.orphan, desk.did(p.Start)) == ("online", False, [])
    assert not any("without a request" in (said.msg or "") for said in desk.said(m.PowerState))


@pytest.mark.parametrize(("shows", "state"), [(True, "booted"), (False, "starting")])
def test_a_wake_starts_a_machine_that_another_monitor_has_just_started_only_if_that_does_not_show(
    shows: bool, state: str
) -> None:
    desk = Desk().off()
    desk.happens(ELSEWHERE)
    desk.happens(p.Wake("job-1"))
    desk.reads("stopped")
    assert (desk.state, desk.did(p.Start)) == ("off", [])
    if shows:
        desk.reads("running")
    else:
        desk.passes(desk.policy.shows_within)
    assert (desk.state, len(desk.did(p.Start))) == (state, 0 if shows else 1)


def test_a_boot_that_is_too_late_for_one_gpu_does_not_stop_the_other() -> None:
    desk = Desk().starting()
    desk.happens(ELSEWHERE)
    desk.reads("running")
    desk.passes(desk.policy.boot_timeout)
    assert (desk.state, desk.did(p.Stop)) == ("failed", [])
    desk.answers(1)
    desk.reads("running")
    assert (desk.state, desk.did(p.Stop)) == ("booted", [])


def test_one_monitor_speaks_for_each_of_its_gpus_and_asks_about_all_of_them() -> None:
    desk = Desk(more=("gpu-2",), checks_health=False).booted()
    assert [said.gpu for said in desk.said(m.PowerState) if said.state == "booted"] == ["gpu-1", "gpu-2"]
    desk.happens(m.Online(gpu="gpu-2"))
    assert desk.state == "online"
    desk.passes(desk.policy.idle_after)
    query = desk.said(m.TaskQuery)[-1]
    assert (query.gpu, query.idle) == (None, None)
    desk.answers(0)
    desk.answers(0)
    assert len(desk.did(p.Stop)) == 1


@pytest.mark.parametrize(("gpu", "heard"), [("gpu-1", True), ("gpu-2", True), ("gpu-3", False)])
def test_it_hears_what_concerns_one_of_them(gpu: str, *, heard: bool) -> None:
    message = m.Release(gpu=gpu)
    assert to_event(message, "gpu-1", "gpu-2") == (message if heard else None)
