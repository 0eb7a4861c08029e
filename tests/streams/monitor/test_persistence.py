"""A monitor that is killed and started again: it looks first, never starts twice, and knows the machine's past."""

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.monitor import persistence
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.protocol import messages as m

UNIX = 1.7e9
"""UNIX seconds at the first monitor's 0."""


def kept(desk: Desk) -> persistence.MachineKept:
    return persistence.snapshot(desk.machine, desk.now, UNIX + desk.now)


def reborn(desk: Desk, after: float = 5.0, clock: float = 17.0) -> Desk:
    """The next life of this monitor, on a clock of its own."""
    known = persistence.ages([kept(desk)], UNIX + desk.now + after)
    second = Desk(linked=False)
    second.policy, second.monitor = desk.policy, desk.monitor
    second.now = clock
    second.machine = persistence.restore(known, clock)
    second.happens(LinkUp(frozenset({"power_state"})))
    return second


def warned(desk: Desk) -> bool:
    return any("without a request" in note.text for note in desk.did(p.LogNote))


def test_a_monitor_without_a_journal_starts_normally() -> None:
    assert persistence.ages([], UNIX) is None
    assert persistence.restore(None, 5.0) == p.Machine()


@pytest.mark.parametrize(("taken", "patience"), [(False, 60.0), (True, 600.0)])
def test_a_start_without_visible_effect_is_repeated_only_after_its_time(*, taken: bool, patience: float) -> None:
    first = Desk().off()
    first.happens(p.Wake("job-1"))
    if taken:
        first.taken()
    second = reborn(first, after=5.0)
    second.reads("stopped")
    second.happens(p.Wake("job-2"))
    second.now += patience - 10.0
    second.reads("stopped")
    assert not second.did(p.Start)
    second.now += 6.0
    second.reads("stopped")
    assert len(second.did(p.Start)) == 1


def test_a_machine_that_it_started_is_no_orphan_after_a_restart() -> None:
    first = Desk().online()
    second = reborn(first)
    second.reads("running")
    assert second.state == "booted"
    assert not warned(second)


def test_a_machine_started_while_the_monitor_was_down_is_an_orphan() -> None:
    second = reborn(Desk().off())
    second.reads("running")
    assert warned(second)


def test_the_longest_uptime_counts_through_a_restart() -> None:
    first = Desk(max_uptime=1000.0).online()
    first.now += 900.0
    second = reborn(first, after=50.0)
    second.reads("running")
    second.happens(p.HealthAnswer(True))
    second.passes(40.0)
    assert second.state == "online"
    second.passes(20.0)
    assert second.state == "draining"


def test_the_idle_time_counts_through_a_restart_and_work_puts_it_back() -> None:
    first = Desk().online()
    first.now += 1000.0
    second = reborn(first, after=600.0)
    second.reads("running")
    second.happens(p.HealthAnswer(True))
    second.passes(100.0)
    assert second.state == "online"
    second.passes(110.0)
    second.happens(p.HealthAnswer(True))
    second.answers(0)
    assert second.state == "draining"
    third = reborn(first, after=600.0)
    third.reads("running")
    third.happens(p.Wake("job-2"))
    third.happens(p.HealthAnswer(True))
    third.passes(1700.0)
    assert third.state == "online"


def test_a_failed_start_leaves_nothing_to_wait_for() -> None:
    first = Desk().failed()
    second = reborn(first)
    second.reads("stopped")
    assert second.state == "off"
    second.happens(p.Wake("job-2"))
    assert len(second.did(p.Start)) == 1
    assert not second.said(m.BootResult)


def test_only_news_is_written() -> None:
    desk = Desk().online()
    before = kept(desk)
    desk.now += 3.0
    assert not persistence.worth_keeping(before, persistence.snapshot(desk.machine, desk.now, UNIX + desk.now + 0.5))
    desk.happens(m.TaskActive(task_id="task-1"))
    assert not persistence.worth_keeping(before, kept(desk))
    desk.now += persistence.USE_EVERY
    desk.happens(m.TaskActive(task_id="task-1"))
    assert persistence.worth_keeping(before, kept(desk))


def test_a_start_is_stored_before_the_call_and_its_end_after() -> None:
    desk = Desk().off()
    before = kept(desk)
    desk.happens(p.Wake("job-1"))
    asked = kept(desk)
    assert persistence.worth_keeping(before, asked)
    assert asked.start_at == pytest.approx(UNIX + desk.now)
    desk.taken()
    assert persistence.worth_keeping(asked, kept(desk))
    desk.reads("running")
    assert kept(desk).start_at is None
    assert persistence.worth_keeping(asked, kept(desk))


def test_a_restarted_monitor_knows_since_when_the_machine_is_off() -> None:
    first = Desk(linked=False).off()
    first.passes(3600)
    second = reborn(first, after=600.0)
    second.happens(LinkUp(frozenset({"power_state", "power_age"})))
    second.reads("stopped")
    assert second.said(m.PowerState)[-1].age == pytest.approx(4200, abs=40)


# A machine that ends with its monitor


def test_a_machine_that_ends_with_its_monitor_was_off_since_their_last_sign_of_life() -> None:
    first = Desk().online()
    lived = UNIX + first.now
    known = persistence.ages([persistence.snapshot(first.machine, first.now, lived, ends=True)], lived + 3600.0)
    assert known is not None
    assert 3600.0 <= known["off_since"] < 3600.0 + persistence.LIFE_EVERY
    second = Desk(linked=False)
    second.machine = persistence.restore(known, second.now)
    second.happens(LinkUp(frozenset({"power_state", "power_age"})))
    second.happens(p.Wake("job-1"))
    second.reads("stopped")
    said = second.said(m.PowerState)
    assert [(each.state, each.age) for each in said] == [
        ("unknown", None), ("off", pytest.approx(known["off_since"], abs=0.1)), ("starting", 0.0),
    ]  # fmt: skip
    assert len(second.did(p.Start)) == 1, "what was started before does not come any more"


def test_while_such_a_machine_is_on_its_monitor_writes_a_sign_of_life_now_and_then() -> None:
    desk = Desk().online()

    def alive() -> persistence.MachineKept:
        return persistence.snapshot(desk.machine, desk.now, UNIX + desk.now, ends=True)

    before = alive()
    desk.now += persistence.LIFE_EVERY
    assert persistence.worth_keeping(before, alive())
    desk.happens(p.Ended())
    off = alive()
    assert off.off_since == UNIX + desk.now
    desk.now += persistence.LIFE_EVERY
    assert not persistence.worth_keeping(off, alive())


def test_a_monitor_that_ends_says_that_its_machine_is_off_and_starts_it_for_nobody() -> None:
    desk = Desk().unknown()
    desk.happens(p.Wake("job-1"))
    desk.happens(p.Ended())
    assert desk.states()[-1] == "off"
    assert desk.passes(100.0) == []
