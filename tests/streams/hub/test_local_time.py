"""Days and clock times in time zones whose clocks are set forward and back."""

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams.days import BERLIN, day_number
from wakestream.streams.hub import local_time as t

HOUR = 3600.0
NEWFOUNDLAND = "America/St_Johns"
"""Until 2011 its clocks were set back at one minute past midnight, to the day before."""
SAMOA = "Pacific/Apia"
"""It had no 30 December 2011."""

zones = st.sampled_from(["UTC", BERLIN, NEWFOUNDLAND, SAMOA, "America/New_York", "Asia/Beirut", "Asia/Kathmandu"])
times = st.floats(0, 4e9)


def at(text: str, zone: str) -> float:
    """The first moment at which the clock in `zone` shows this."""
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@given(times, zones)
def test_each_moment_is_in_its_day(moment: float, zone: str) -> None:
    day = t.day_of(moment, zone)
    assert t.begin_of(day, zone) <= moment < t.begin_of(day + 1, zone)


@given(st.integers(0, 40_000), zones)
def test_days_follow_each_other(day: int, zone: str) -> None:
    length = t.begin_of(day + 1, zone) - t.begin_of(day, zone)
    assert 0 <= length <= 25 * HOUR
    assert length > 0 or zone == SAMOA


def test_a_day_on_which_the_clock_is_set_has_23_or_25_hours() -> None:
    spring, autumn = day_number("2026-03-29"), day_number("2026-10-25")
    assert t.begin_of(spring + 1, BERLIN) - t.begin_of(spring, BERLIN) == 23 * HOUR
    assert t.begin_of(autumn + 1, BERLIN) - t.begin_of(autumn, BERLIN) == 25 * HOUR


def test_a_clock_that_is_set_back_over_midnight_does_not_bring_the_day_before_back() -> None:
    day = day_number("2010-11-07")
    midnight = at("2010-11-07 00:00", NEWFOUNDLAND)
    assert [t.day_of(midnight + minutes * 60, NEWFOUNDLAND) for minutes in (-1, 0, 2, 70)] == [day - 1, day, day, day]


def test_a_time_that_the_clock_skips_is_the_moment_at_which_it_does() -> None:
    spring = day_number("2026-03-29")
    assert t.moment(spring, 2 * 60, BERLIN) == at("2026-03-29 03:00", BERLIN)
    assert t.moment(spring, 2 * 60 + 30, BERLIN) == at("2026-03-29 03:00", BERLIN)


def test_a_time_that_comes_twice_is_its_first_or_its_last() -> None:
    autumn = day_number("2026-10-25")
    assert t.moment(autumn, 3 * 60, BERLIN) - t.moment(autumn, 2 * 60, BERLIN) == 2 * HOUR
    assert t.moment(autumn, 3 * 60, BERLIN) - t.moment(autumn, 2 * 60, BERLIN, last=True) == HOUR


def test_the_end_of_a_day_is_the_begin_of_the_next() -> None:
    assert t.moment(20_000, 1440, BERLIN) == t.begin_of(20_001, BERLIN)


@given(st.dates(datetime.date(1970, 1, 1), datetime.date(2400, 1, 1)))
def test_months_are_the_calendars(date: datetime.date) -> None:
    day = day_number(date.isoformat())
    assert t.date_text(t.first_of_month(day)) == date.replace(day=1).isoformat()
    after = date.replace(day=28) + datetime.timedelta(days=4)
    assert t.date_text(t.next_month(day)) == after.replace(day=1).isoformat()
    assert t.weekday(day) == date.weekday()


@pytest.mark.parametrize(
    ("zone", "text"), [("UTC", "2026-01-31 23:30 UTC"), (BERLIN, "2026-02-01 00:30 Europe/Berlin")]
)
def test_a_time_is_written_in_its_zone(zone: str, text: str) -> None:
    assert t.time_text(at("2026-01-31 23:30", "UTC"), zone) == text
