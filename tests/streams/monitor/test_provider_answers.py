"""What the monitor does about quotas, refused credentials, deleted machines, late starts, and addresses."""

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.protocol import messages as m

URL = "http://203.0.113.7:8383"


def starts(desk: Desk) -> int:
    return len(desk.did(p.Start))


def asked(why: str, fault: p.Fault, retry_after: float | None = None, **settings: float) -> Desk:
    """A machine that was off and is wanted; the provider did not accept the start."""
    desk = Desk(**settings).off()
    desk.happens(p.Wake("job-1"))
    desk.fails(why, fault=fault, retry_after=retry_after)
    return desk


def at_an_address(url: str | None = URL) -> Desk:
    """A machine that has come up, whose provider reports its address."""
    desk = Desk(checks_health=False, follows_address=True).starting()
    desk.reads("running", address=url)
    return desk


def is_off_until_the_next_start(desk: Desk) -> float:
    """The provider says stopped until the start is repeated; returns how long that takes."""
    before, began = starts(desk), desk.now
    while starts(desk) == before:
        if desk.machine.call is not None:
            desk.reads("stopped")
        desk.passes(1.0)
    return desk.now - began


@pytest.mark.parametrize("fault", ["quota", "denied", ""])
def test_a_refused_start_is_told_once_and_not_repeated(fault: p.Fault) -> None:
    desk = asked("the account has no credit", fault)
    assert [result.msg for result in desk.said(m.BootResult)] == ["the account has no credit"]
    for _ in range(100):
        desk.reads("stopped")
    assert (desk.state, starts(desk), len(desk.said(m.BootResult))) == ("failed", 1, 1)


def test_another_job_asks_once_more_after_a_quota() -> None:
    desk = asked("no credit", "quota")
    desk.reads("stopped")
    desk.happens(p.Wake("job-2"))
    desk.reads("stopped")
    desk.fails("no credit", fault="quota")
    assert [result.request_id for result in desk.said(m.BootResult)] == ["job-1", "job-2"]
    assert starts(desk) == 2


@pytest.mark.parametrize("how", ["terminated", "gone"])
def test_a_terminated_machine_is_never_started(how: str) -> None:
    desk = Desk().off()

    def looks() -> None:
        if how == "gone":
            desk.fails("no such machine", fault="gone")
        else:
            desk.reads("terminated", "no such machine")

    while desk.state != "failed":
        looks()
    for job in ("job-1", "job-2"):
        desk.happens(p.Wake(job))
        looks()
    assert [(result.request_id, result.msg) for result in desk.said(m.BootResult)] == [
        ("job-1", "no such machine"),
        ("job-2", "no such machine"),
    ]
    assert (desk.state, starts(desk)) == ("failed", 0)


def test_a_machine_that_is_gone_at_the_start_is_told_when_further_looks_do_not_find_it() -> None:
    desk = Desk().off()
    desk.happens(p.Wake("job-1"))
    begin = desk.now
    for _ in range(3):
        desk.fails("no such machine", fault="gone")
    assert (desk.state, desk.said(m.BootResult)) == ("starting", []), "several answers in a row may come within seconds"
    while desk.state == "starting":
        desk.fails("no such machine", fault="gone")
    assert desk.now - begin >= desk.policy.gone_after
    assert (desk.state, desk.said(m.BootResult)[0].msg) == ("failed", "no such machine")
    assert starts(desk) == 1


def test_a_start_for_a_machine_that_was_not_found_for_a_moment_is_repeated_when_it_is_seen_off() -> None:
    desk = asked("no such machine", "gone")
    desk.reads("stopped")
    assert (desk.state, starts(desk), desk.said(m.BootResult)) == ("starting", 2, [])


def test_a_machine_that_was_not_found_for_a_moment_is_looked_at_before_it_is_started() -> None:
    desk = Desk().off()
    desk.fails("no such machine", fault="gone")
    desk.happens(p.Wake("job-1"))
    assert starts(desk) == 0
    desk.reads("stopped")
    assert (starts(desk), desk.said(m.BootResult)) == (1, [])


def test_a_machine_that_serves_is_not_failed_by_one_answer_that_it_does_not_exist() -> None:
    desk = Desk().online()
    desk.fails("no such machine", fault="gone")
    assert desk.state == "online"
    desk.reads("running")
    begin = desk.now
    while desk.state == "online":
        desk.fails("no such machine", fault="gone")
    assert (desk.state, desk.now - begin >= desk.policy.gone_after) == ("failed", True)


def test_refused_credentials_are_told_to_a_job_at_once() -> None:
    desk = Desk().off()
    desk.fails("401", fault="denied")
    assert desk.state == "unknown"
    desk.happens(p.Wake("job-1"))
    desk.fails("401", fault="denied")
    assert desk.said(m.BootResult)[0].msg == "cannot look at the machine: 401"
    assert starts(desk) == 0
    desk.reads("stopped")  # the key was replaced
    desk.happens(p.Wake("job-2"))
    assert starts(desk) == 1


def test_a_start_that_may_have_been_accepted_is_repeated_only_if_the_machine_is_off() -> None:
    desk = asked("no answer", "transient")
    assert desk.state == "starting"
    desk.fails("no answer", fault="transient")  # nor can it be looked at
    desk.passes(60.0)
    assert starts(desk) == 1
    desk.reads("starting")
    desk.passes(120.0)
    desk.reads("running")
    assert (desk.state, starts(desk)) == ("booted", 1)


def test_a_start_that_did_not_arrive_is_repeated() -> None:
    desk = asked("no answer", "transient")
    assert is_off_until_the_next_start(desk) == pytest.approx(60.0, abs=2.0)
    assert (desk.state, starts(desk)) == ("starting", 2)


def test_a_start_is_not_repeated_for_what_was_seen_before_it_could_show() -> None:
    desk = asked("no answer", "transient")
    desk.reads("stopped")
    desk.passes(5.0)  # a look begins, and has no answer for long
    desk.passes(55.0)
    assert starts(desk) == 1
    desk.reads("running")
    assert (desk.state, starts(desk)) == ("booted", 1)


def test_a_start_waits_as_long_as_the_provider_asks_for() -> None:
    desk = asked("too many requests", "transient", 7.0)
    assert is_off_until_the_next_start(desk) == pytest.approx(7.0, abs=2.0)


def test_a_start_that_was_refused_for_long_is_not_asked_for_sooner_as_if_there_were_no_capacity() -> None:
    desk = asked("too many requests", "transient", 120.0, start_within=20.0, boot_timeout=300.0)
    assert is_off_until_the_next_start(desk) == pytest.approx(120.0, abs=2.0)
    assert desk.state == "starting"


def test_a_look_waits_as_long_as_the_provider_asks_for() -> None:
    desk = Desk().off()
    desk.fails("too many requests", fault="transient", retry_after=120.0)
    assert desk.machine.looks.next_at == desk.now + 120.0


def test_the_reason_of_a_start_that_is_repeated_is_told_at_the_boot_timeout() -> None:
    desk = asked("HTTP 500", "transient", boot_timeout=20.0)
    desk.reads("stopped")
    desk.passes(20.0)
    assert "the start failed: HTTP 500" in (desk.said(m.BootResult)[0].msg or "")


def test_too_late_is_no_capacity_and_no_second_start() -> None:
    desk = Desk(start_within=60.0).starting()
    desk.reads("starting")
    desk.passes(60.0)
    desk.reads("starting")
    assert desk.state == "no_capacity"
    for _ in range(3):
        desk.passes(30.0)
        desk.reads("starting")
    assert (desk.state, starts(desk)) == ("no_capacity", 1)
    desk.reads("running")
    assert (desk.state, starts(desk)) == ("booted", 1)


def test_a_late_start_that_was_given_up_by_the_provider_is_repeated() -> None:
    desk = Desk(start_within=60.0).starting()
    desk.reads("starting")
    desk.passes(60.0)
    desk.reads("starting")
    desk.passes(30.0)
    desk.reads("stopped")
    assert (desk.state, starts(desk)) == ("starting", 2)


def test_a_start_that_never_happened_is_called_off_at_the_boot_timeout() -> None:
    desk = Desk(start_within=60.0, boot_timeout=120.0).starting()
    for _ in range(4):
        desk.reads("starting")
        desk.passes(30.0)
    assert len(desk.said(m.BootResult)) == 1
    assert (desk.state, len(desk.did(p.Stop))) == ("stopping", 1)


@pytest.mark.parametrize("before", ["starting", "stopped"])
def test_a_machine_without_its_gpu_is_a_failed_boot_and_is_stopped(before: str) -> None:
    desk = Desk().starting()
    if before == "starting":
        desk.reads("starting")
    desk.reads("running", gpus=0)
    assert "without its GPU" in (desk.said(m.BootResult)[0].msg or "")
    assert (desk.state, len(desk.did(p.Stop)), starts(desk)) == ("stopping", 1, 1)


def test_a_machine_that_was_started_without_a_gpu_by_a_person_is_left_to_the_idle_time() -> None:
    desk = Desk().off()
    desk.reads("running", gpus=0)
    assert (desk.state, desk.did(p.Stop)) == ("booted", [])


# --- the address


def urls(desk: Desk) -> list[str | None]:
    return [said.url for said in desk.said(m.PowerState)]


def test_the_hub_learns_the_address_when_the_machine_runs_and_forgets_it_when_it_stops() -> None:
    desk = at_an_address()
    assert (desk.states()[-1], urls(desk)[-1]) == ("booted", URL)
    desk.reads("stopped")
    assert urls(desk)[-1] is None


def test_an_address_that_comes_later_or_changes_is_told_again() -> None:
    desk = at_an_address(None)
    desk.reads("running", address=URL)
    desk.reads("running")  # for a moment the provider does not say it
    desk.reads("running", address="http://203.0.113.8:8383")
    assert urls(desk)[-3:] == [None, URL, "http://203.0.113.8:8383"]


def test_the_worker_is_asked_for_its_health_at_the_address() -> None:
    desk = at_an_address()
    assert desk.did(p.CheckHealth)[-1].url == URL
    desk.happens(p.HealthAnswer(True, url=URL))
    assert desk.state == "online"
    for _ in range(desk.policy.misses):
        desk.happens(p.HealthAnswer(False, "refused", url=URL))
    assert desk.state == "booted"


def test_a_worker_that_cannot_be_reached_from_here_is_not_given_up() -> None:
    desk = at_an_address()
    desk.happens(m.Online())
    for _ in range(10):
        desk.happens(p.HealthAnswer(False, "refused", url=URL))
    assert desk.state == "online"


def test_an_answer_from_a_former_address_does_not_count() -> None:
    desk = at_an_address()
    desk.happens(p.HealthAnswer(True, url="http://203.0.113.1:8383"))
    assert desk.state == "booted"


def test_a_machine_that_was_found_running_is_as_old_as_the_provider_says() -> None:
    desk = Desk(max_uptime=3600.0).unknown()
    desk.reads("running", age=3000.0)
    assert desk.machine.use.up_since == desk.now - 3000.0
    started = Desk(max_uptime=3600.0).starting()
    started.reads("running", age=86_400.0)  # a wrong clock
    assert started.machine.use.up_since == started.now


def test_a_hub_waits_for_an_address_that_the_provider_will_report() -> None:
    desk = Desk(checks_health=False, follows_address=True, expects_address=True).starting()
    assert desk.said(m.PowerState)[-1].url_follows
    desk.reads("running", address=URL)
    assert (urls(desk)[-1], desk.said(m.PowerState)[-1].url_follows) == (URL, None)
    desk.reads("stopped")
    assert (urls(desk)[-1], desk.said(m.PowerState)[-1].url_follows) == (None, None)
