"""A machine that runs without a request, one without a known state, and one whose worker the hub has lost."""

import itertools
from typing import Any

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.protocol import messages as m

HOUR = 3600.0


def warnings(desk: Desk, text: str) -> list[str]:
    return [note.text for note in desk.did(p.LogNote) if note.warning and text in note.text]


def found(**settings: Any) -> Desk:
    """A machine that runs when the monitor comes."""
    desk = Desk(**settings)
    desk.reads("running")
    return desk


# Found running


@pytest.mark.parametrize("policy", ["adopt", "stop", "report"])
@pytest.mark.parametrize("before", ["unknown", "off"])
def test_an_orphan_is_reported_to_log_hub_and_clients(before: str, policy: str) -> None:
    desk = Desk(orphans=policy)
    getattr(desk, before)()
    desk.reads("running", "instance i-7 is Running")
    assert len(warnings(desk, "it runs without a request")) == 1
    booted = [message for message in desk.said(m.PowerState) if message.state == "booted"]
    assert "runs without a request" in (booted[0].msg or "")
    assert "instance i-7 is Running" in (booted[0].msg or "")


def test_a_machine_that_another_program_starts_is_reported_too() -> None:
    desk = Desk().off()
    desk.reads("starting")
    desk.reads("running")
    assert len(warnings(desk, "it runs without a request")) == 1


def test_a_machine_that_a_job_waits_for_is_used() -> None:
    desk = Desk()
    desk.happens(p.Wake("job-1"))
    desk.reads("running")
    assert not warnings(desk, "without a request")
    assert desk.state == "booted"


def test_a_machine_that_this_monitor_started_is_no_orphan() -> None:
    desk = Desk(checks_health=False).booted()
    desk.happens(m.Online())
    for _ in range(desk.policy.misses):
        desk.fails()
    assert desk.state == "unknown"
    desk.reads("running")
    assert not warnings(desk, "without a request")


def test_under_stop_an_orphan_without_leases_is_stopped_at_once() -> None:
    desk = found(orphans="stop")
    assert not desk.did(p.Stop)
    desk.answers(0)
    assert len(desk.did(p.Stop)) == 1
    assert desk.state == "stopping"


def test_under_stop_one_whose_worker_is_online_is_drained_first() -> None:
    desk = found(orphans="stop")
    desk.happens(p.HealthAnswer(True))
    assert desk.state == "draining"
    assert desk.said(m.TaskQuery)[-1].drain
    desk.answers(0)
    assert len(desk.did(p.Stop)) == 1


@pytest.mark.parametrize("online", [False, True])
def test_under_stop_a_held_orphan_is_adopted(*, online: bool) -> None:
    desk = found(orphans="stop")
    if online:
        desk.happens(p.HealthAnswer(True))
    desk.answers(1)
    desk.happens(p.HealthAnswer(True))
    desk.passes(60.0)
    assert desk.state == "online"
    assert not desk.did(p.Stop)
    desk.drains()


def test_under_stop_nothing_is_stopped_during_a_hub_outage() -> None:
    desk = Desk(orphans="stop", linked=False)
    desk.reads("running")
    for _ in range(100):
        desk.passes(60.0)
    assert not desk.did(p.Stop)


def test_under_report_an_orphan_is_reported_less_and_less_often() -> None:
    desk = found(orphans="report")
    desk.happens(p.HealthAnswer(True))
    for _ in range(24 * 60):
        desk.passes(60.0)
        if desk.machine.call is not None:
            desk.reads("running")
    assert desk.state == "online"
    assert not desk.did(p.Stop)
    assert not desk.said(m.TaskQuery)
    assert 8 <= len(warnings(desk, "without a request")) <= 14


def test_under_report_a_used_orphan_is_treated_as_any_other() -> None:
    desk = found(orphans="report")
    desk.passes(2 * desk.policy.boot_timeout)
    desk.happens(p.Wake("job-1"))
    assert desk.state == "booted"
    desk.happens(p.HealthAnswer(True))
    desk.drains()


def test_the_longest_uptime_holds_for_every_machine() -> None:
    for online in (False, True):
        desk = found(orphans="report", max_uptime=10 * HOUR)
        if online:
            desk.happens(p.HealthAnswer(True))
        desk.passes(10 * HOUR)
        desk.answers(0)
        assert len(desk.did(p.Stop)) == 1


# Not to be described


def test_a_machine_of_unknown_state_is_never_assumed_off_or_dropped() -> None:
    desk = Desk(checks_health=False).booted()
    desk.happens(m.Online())
    for _ in range(2000):
        desk.fails("no route to the provider")
    assert desk.state == "unknown"
    assert desk.states()[-1] == "unknown"
    assert not desk.did(p.Stop)
    assert len(desk.did(p.Start)) == 1
    assert len(desk.did(p.Inspect)) > 2000
    desk.reads("stopped")
    assert desk.state == "off"


def test_a_machine_that_could_never_be_inspected_is_explained_once() -> None:
    desk = Desk()
    for _ in range(20):
        desk.fails("no route to the provider")
    assert (desk.state, desk.machine.reason) == ("unknown", "cannot look at the machine: no route to the provider")
    reasons = [message.msg for message in desk.said(m.PowerState)]
    assert reasons == ["not looked at yet", "cannot look at the machine: no route to the provider"]


def test_the_alarm_about_it_comes_at_growing_intervals() -> None:
    desk = Desk()
    began, alarms = desk.now, {}
    while desk.now - began < 48 * HOUR:
        desk.fails("no route to the provider")
        alarms.update(dict.fromkeys(warnings(desk, "cannot look at the machine"), desk.now))
        desk.commands.clear()
    gaps = [later - earlier for earlier, later in itertools.pairwise(list(alarms.values())[3:])]
    assert 8 <= len(alarms) <= 16
    assert gaps == sorted(gaps)
    assert "may cost money" in list(alarms)[-1]


def test_after_a_successful_inspect_the_next_error_is_reported_at_once() -> None:
    desk = Desk()
    for _ in range(50):
        desk.fails()
    desk.reads("stopped")
    before = len(warnings(desk, "cannot look"))
    desk.fails()
    assert len(warnings(desk, "cannot look")) == before + 1


# The worker went away


def lost(**settings: Any) -> Desk:
    desk = Desk(**settings).online()
    if desk.machine.call is not None:
        desk.reads("running")
    return desk


def test_a_worker_lost_by_the_hub_causes_an_inspect() -> None:
    desk = lost()
    looks = len(desk.did(p.Inspect))
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    assert len(desk.did(p.Inspect)) == looks + 1
    desk.reads("failed")
    assert desk.state == "off"


def test_a_wake_after_a_loss_inspects_again_and_starts_the_machine() -> None:
    desk = lost()
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    desk.reads("running")  # it is just going down
    began = desk.now
    desk.happens(p.Wake("job-1"))
    desk.reads("stopped")
    desk.happens(p.Wake("job-1"))  # the hub asks again when it learns that the machine is off
    assert desk.state == "starting"
    assert desk.now == began


def test_after_a_loss_it_inspects_often_until_the_worker_returns() -> None:
    desk = lost()
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    desk.reads("running")
    assert desk.machine.looks.next_at - desk.now == desk.policy.look_soon
    desk.happens(m.Online())
    desk.reads("running")
    assert desk.machine.looks.next_at - desk.now == desk.policy.look_online


@pytest.mark.parametrize(("held", "state"), [(0, "stopping"), (1, "booted")])
def test_a_machine_whose_worker_stays_away_is_switched_off_for_a_cold_start_unless_a_job_holds_it(
    held: int, state: str
) -> None:
    desk = lost(checks_health=False)
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    for _ in range(2):  # the time for it to come back, and that for a boot
        for _ in range(60):
            desk.reads("running")
            desk.happens(p.Wake("job-1"))  # a job waits for it meanwhile
            desk.passes(10.0)
    assert desk.states()[-2:] == ["booted", "failed"]
    desk.answers(held)
    if held:
        desk.reads("running")
    assert desk.state == state


def test_a_worker_that_is_merely_cut_off_from_the_hub_stays_online() -> None:
    desk = lost()
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    desk.happens(p.HealthAnswer(True))
    assert desk.state == "online"
    assert not desk.machine.worker.gone


def test_a_machine_that_stops_after_serving_is_off_and_not_a_failed_boot() -> None:
    desk = lost()
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    for _ in range(desk.policy.misses):
        desk.happens(p.HealthAnswer(False, "refused"))
    assert desk.state == "booted"
    desk.reads("failed", "it fell over")
    assert desk.state == "off"
    assert not desk.said(m.BootResult)


def test_a_machine_seen_while_stopping_is_no_failed_boot() -> None:
    desk = lost()
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    for _ in range(desk.policy.misses):
        desk.happens(p.HealthAnswer(False, "refused"))
    desk.happens(p.Wake("job-1"))
    desk.reads("stopping", "it is taken back")
    assert desk.state == "stopping"
    desk.reads("stopped")
    assert desk.state == "off"
    assert not desk.said(m.BootResult)
    assert not desk.did(p.Stop)
    desk.happens(p.Wake("job-1"))  # the hub asks again when it learns that the machine is off
    assert desk.state == "starting"


@pytest.mark.parametrize("checks_health", [True, False])
def test_a_wake_for_a_stopped_machine_is_not_lost_at_an_old_hub(*, checks_health: bool) -> None:
    desk = lost(ours=False, checks_health=checks_health)
    desk.happens(p.Wake("job-1"))
    desk.reads("stopped")
    assert desk.state == "starting"
    assert len(desk.did(p.Start)) == 2


@pytest.mark.parametrize("known", [True, False])
def test_an_inspect_from_before_the_wake_does_not_satisfy_it(*, known: bool) -> None:
    desk = lost(ours=False, checks_health=False) if known else Desk(ours=False, checks_health=False)
    desk.passes(desk.policy.look_online)
    assert isinstance(desk.call(), p.Inspect)
    desk.happens(p.Wake("job-1"))
    desk.reads("running")
    desk.reads("stopped")
    assert desk.state == "starting"


def test_nor_is_one_that_comes_when_its_worker_answers_no_more() -> None:
    desk = lost(ours=False)
    for _ in range(desk.policy.misses):
        desk.happens(p.HealthAnswer(False, "refused"))
    desk.happens(p.Wake("job-1"))
    desk.reads("stopping")
    desk.reads("stopped")
    assert desk.state == "starting"


@pytest.mark.parametrize("checks_health", [True, False])
def test_a_wake_that_was_served_starts_nothing_after_the_stop(*, checks_health: bool) -> None:
    desk = lost(ours=False, checks_health=checks_health)
    desk.happens(p.Wake("job-1"))
    if checks_health:
        desk.happens(p.HealthAnswer(True))
    else:
        desk.reads("running")
    desk.is_idle()
    desk.answers(0)
    desk.taken()
    desk.reads("stopped")
    assert desk.state == "off"
    assert len(desk.did(p.Start)) == 1


def test_a_late_health_answer_does_not_drop_a_wake_during_a_stop() -> None:
    desk = lost(ours=False)
    desk.is_idle()
    desk.answers(0)
    desk.taken()
    desk.happens(p.Wake("job-2"))
    desk.happens(p.HealthAnswer(True))
    desk.reads("stopped")
    assert desk.state == "starting"


def test_jobs_get_no_failed_boot_while_the_machine_of_an_unreachable_worker_runs() -> None:
    desk = lost(ours=False, checks_health=False, idle_after=24 * HOUR)
    desk.happens(m.PowerState(gpu="gpu-1", state="lost"))
    desk.happens(p.Wake("job-2"))
    for _ in range(10):
        desk.passes(desk.policy.boot_timeout)
        desk.reads("running")
    assert not desk.said(m.BootResult)
    assert desk.state == "online"


def test_a_late_hub_message_stops_nothing() -> None:
    desk = Desk().draining()
    desk.now += 2 * desk.policy.query_timeout  # the monitor itself stood still
    desk.answers(0)
    assert desk.state == "online"
    assert not desk.did(p.Stop)


def test_the_hub_is_told_of_a_found_machine_once_also_when_it_was_found_before_the_hub_was_there() -> None:
    desk = Desk(linked=False)
    desk.reads("running")
    desk.happens(LinkUp(frozenset({"power_state"})))
    desk.happens(p.HealthAnswer(True))
    assert [message.orphan for message in desk.said(m.PowerState)] == [True, None]
