"""What a GPU's phases come to: time on, cost, savings, boot times."""

from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams.days import BERLIN, day_number
from wakestream.streams.hub import ledger
from wakestream.streams.hub.local_time import begin_of

HOUR = 3600.0
DAY = 86_400.0
MORNING = 20_000 * DAY + 9 * HOUR
"""Nine o'clock (UTC) of some day."""

PHASES = [*sorted(ledger.RUNNING), "off", "failed", "no_capacity", "unknown"]


def account_of(changes: Iterable[tuple[str, float]]) -> ledger.Account:
    """The account that a GPU's changes, each a phase and since when, lead to."""
    account = ledger.Account()
    for phase, at in changes:
        account.enter(phase, at)
    return account


@pytest.mark.parametrize(("before", "ran"), [("online", HOUR), ("off", 0.0), (None, 0.0)])
def test_a_gpu_of_unknown_state_counts_as_before(before: str | None, ran: float) -> None:
    changes = [(before, MORNING)] if before else []
    book = account_of([*changes, ("unknown", MORNING)])
    assert book.ran(MORNING, MORNING + HOUR) == ran


def test_no_switch_that_is_reported_late_is_booked_before_the_one_that_is_known() -> None:
    book = account_of([("starting", MORNING), ("online", MORNING + 60)])
    assert book.enter("off", MORNING + 300, since=MORNING + 200) == MORNING + 200
    book.enter("online", MORNING + 1200, since=MORNING + 100)
    assert book.ran(MORNING, MORNING + 1200) == 200 + 1000, "it was off until 200"


@given(switches=st.lists(st.floats(1.0, 200_000.0), min_size=1, max_size=8), data=st.data())
def test_reports_that_come_late_lead_to_the_account_of_reports_in_time(
    switches: list[float], data: st.DataObject
) -> None:
    in_time, late, at = ledger.Account(), ledger.Account(), MORNING
    for each in (in_time, late):
        each.enter("off", at)
    for number, pause in enumerate(switches):
        phase, at = ("off" if number % 2 else "online"), at + pause
        in_time.enter(phase, at)
        delay = data.draw(st.floats(0.0, 0.9)) * switches[number + 1] if number + 1 < len(switches) else 0.0
        if data.draw(st.booleans()) and late.running_since is not None:
            late.enter("lost", at + delay / 2)
        late.enter(phase, at + delay, since=at)
    assert late.days == pytest.approx(in_time.days)
    assert late.ran(MORNING, at + 10) == pytest.approx(in_time.ran(MORNING, at + 10))


def test_neither_a_failed_boot_nor_the_wait_for_capacity_is_paid_for() -> None:
    book = account_of([("starting", MORNING), ("no_capacity", MORNING + 10), ("failed", MORNING + 500)])
    assert book.ran(MORNING, MORNING + HOUR) == 10


def test_time_is_split_at_midnight_for_days_and_months() -> None:
    night = 20_001 * DAY
    book = account_of([("online", night - HOUR), ("off", night + 2 * HOUR)])
    assert book.ran(night, night + 5 * HOUR) == 2 * HOUR
    assert book.ran(0.0, night + 5 * HOUR) == 3 * HOUR


def test_old_days_are_summed_up_and_not_lost() -> None:
    account = ledger.Account()
    for day in range(ledger.KEPT_DAYS + 50):
        account.enter("online", day * DAY)
        account.enter("off", day * DAY + HOUR)
    assert len(account.days) == ledger.KEPT_DAYS
    assert account.ran(0.0, (ledger.KEPT_DAYS + 50) * DAY) == (ledger.KEPT_DAYS + 50) * HOUR


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.floats(-2 * DAY, 2 * DAY)), max_size=30))
def test_a_gpu_never_runs_longer_than_it_is_known(steps: list[tuple[str, float]]) -> None:
    account, now = ledger.Account(), MORNING
    for phase, step in steps:
        now += step
        account.enter(phase, now)
    end = max(now, account.at)
    said = ledger.summary(account, 0.0, end, Decimal(2))
    assert 0 <= said["on_s"] <= said["of_s"]
    assert said["cost"] >= 0
    assert said["saved"] >= 0


def test_cost_and_savings_are_against_a_machine_that_is_always_on() -> None:
    book = account_of([("off", MORNING), ("online", MORNING + HOUR), ("off", MORNING + 2 * HOUR)])
    said = ledger.summary(book, 0.0, MORNING + 10 * HOUR, Decimal("1.5"))
    assert said == {"on_s": HOUR, "of_s": 10 * HOUR, "cost": 1.5, "saved": 13.5}


def test_without_a_price_there_is_no_cost() -> None:
    assert ledger.summary(account_of([("online", MORNING)]), 0.0, MORNING + 60, None) == {"on_s": 60, "of_s": 60}


def test_today_and_this_month_begin_at_midnight_utc() -> None:
    at = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
    spans = ledger.windows(at)
    assert spans == {"today": 1_699_920_000.0, "month": 1_698_796_800.0, "all": 0.0}
    assert ledger.windows(at, since=at)["asked"] == spans["today"]


def test_days_and_months_begin_at_midnight_in_the_hubs_zone() -> None:
    at = 1_698_796_800.0  # 2023-11-01 00:00 UTC, 20:00 of the day before in New York
    spans = ledger.windows(at, since=at, zone="America/New_York")
    assert spans["today"] == at - 20 * HOUR
    assert spans["month"] == 1_696_132_800.0  # 2023-10-01 04:00 UTC
    assert spans["asked"] == at + 4 * HOUR, "the day that was asked for, in the hub's zone"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_day_has_as_many_hours_as_the_clock_gives_it(day: str, hours: int) -> None:
    first = day_number(day)
    book = ledger.Account()
    book.enter("online", begin_of(first, BERLIN) - DAY, BERLIN)
    book.enter("off", begin_of(first + 1, BERLIN) + DAY, BERLIN)
    assert book.days[first] == hours * HOUR
    assert book.by_day(first, 0.0, BERLIN) == {first: hours * HOUR, first + 1: DAY}


def test_what_runs_now_is_part_of_each_day_since_it_began() -> None:
    begin = begin_of(20_000, BERLIN) + 20 * HOUR
    book = ledger.Account()
    book.enter("online", begin, BERLIN)
    assert book.by_day(20_000, begin + 6 * HOUR, BERLIN) == {20_000: 4 * HOUR, 20_001: 2 * HOUR}
    assert book.by_day(20_001, begin + 6 * HOUR, BERLIN) == {20_001: 2 * HOUR}


def test_an_amount_is_exact() -> None:
    assert sum((ledger.cost(HOUR, ledger.money(0.1)) for _ in range(10)), Decimal()) == 1


def test_boot_times_use_the_nearest_rank() -> None:
    assert ledger.boot_times([]) is None
    assert ledger.boot_times([40.0]) == {"p50": 40.0, "p90": 40.0}
    assert ledger.boot_times(float(n) for n in range(100, 0, -1)) == {"p50": 50.0, "p90": 90.0}
    assert ledger.boot_times([10.0, 20.0, 30.0]) == {"p50": 20.0, "p90": 30.0}
