"""Hours of the week: how they are written, and when they are, also on days on which the clock is set."""

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams.days import BERLIN
from wakestream.streams.hub.keep_warm import Hours, covered_until, parse

HOUR = 3600.0


def at(text: str, zone: str = BERLIN, *, second: bool = False) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=int(second)).timestamp()


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("Mon-Fri 09:00-18:00", Hours(frozenset(range(5)), 540, 1080)),
        ("daily 0:00-24:00", Hours(frozenset(range(7)), 0, 1440)),
        ("sat 20:00 - 02:00", Hours(frozenset({5}), 1200, 1560)),
        ("Fri-Mon 08:30-09:15", Hours(frozenset({4, 5, 6, 0}), 510, 555)),
        ("Monday,Wednesday 08:00-09:00", Hours(frozenset({0, 2}), 480, 540)),
        ("Tue 10:00-10:00", Hours(frozenset({1}), 600, 2040)),
    ],
)
def test_hours_are_read(text: str, hours: Hours) -> None:
    assert parse(text) == hours


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9-18", "write for example Mon-Fri 09:00-18:00"),
        ("Mon-Fri 09:00", "write for example"),
        ("Mo-Fr 09:00-18:00", "'mo-fr' is no weekday"),
        ("Mon-Fri 09:60-18:00", "09:60 is no time"),
        ("Mon-Fri 09:00-25:00", "25:00 is no time"),
        ("Mon 24:00-25:00", "25:00 is no time"),
        ("Mon 24:00-01:00", "cannot begin at 24:00"),
    ],
)
def test_what_is_no_hours_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


def covered(text: str, moment: float, lead: float = 0.0) -> float | None:
    return covered_until([parse(text)], moment, BERLIN, lead)


@pytest.mark.parametrize(
    ("moment", "until"),
    [
        ("2026-03-13 08:59:59", None),
        ("2026-03-13 09:00", "2026-03-13 18:00"),
        ("2026-03-13 17:59:59", "2026-03-13 18:00"),
        ("2026-03-13 18:00", None),
        ("2026-03-14 12:00", None),
    ],
)
def test_office_hours(moment: str, until: str | None) -> None:
    assert covered("Mon-Fri 09:00-18:00", at(moment)) == (None if until is None else at(until))


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    assert covered("Fri 22:00-02:00", at("2026-03-14 01:30")) == at("2026-03-14 02:00")
    assert covered("Fri 22:00-02:00", at("2026-03-13 01:30")) is None


def test_they_begin_earlier_by_the_lead_also_before_midnight() -> None:
    assert covered("Mon 00:00-01:00", at("2026-03-15 23:58"), lead=180.0) == at("2026-03-16 01:00")
    assert covered("Mon 00:00-01:00", at("2026-03-15 23:56"), lead=180.0) is None


def test_of_hours_that_meet_the_last_end_counts() -> None:
    hours = [parse("daily 08:00-12:00"), parse("daily 11:00-15:00")]
    assert covered_until(hours, at("2026-03-13 11:30"), BERLIN) == at("2026-03-13 15:00")


def test_hours_that_the_clock_skips_are_not_there_that_day() -> None:
    """On 2026-03-29 the clock in Berlin goes from 02:00 to 03:00."""
    skip = at("2026-03-29 03:00")
    assert covered("daily 02:00-03:00", skip - 1) is None
    assert covered("daily 02:00-03:00", skip) is None
    assert covered("daily 01:00-04:00", skip) == at("2026-03-29 04:00")
    assert at("2026-03-29 04:00") - at("2026-03-29 01:00") == 2 * HOUR


def test_hours_with_a_time_that_comes_twice_use_its_first() -> None:
    """On 2026-10-25 the clock in Berlin goes from 03:00 back to 02:00."""
    first, second = at("2026-10-25 02:00"), at("2026-10-25 02:00", second=True)
    assert second - first == HOUR
    assert covered("daily 02:00-03:00", first) == at("2026-10-25 03:00")
    assert covered("daily 02:00-03:00", second) == at("2026-10-25 03:00")
    assert covered("daily 01:00-02:30", second) is None
    assert covered("daily 01:00-02:30", first) == first + HOUR / 2


@given(
    st.floats(1.6e9, 2e9),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sampled_from(["UTC", BERLIN, "Asia/Kathmandu"]),
)
def test_outside_of_days_on_which_the_clock_is_set_it_is_what_the_clock_shows(
    moment: float, begin: int, length: int, zone: str
) -> None:
    local = datetime.datetime.fromtimestamp(moment, ZoneInfo(zone))
    if local.utcoffset() != (local - datetime.timedelta(days=2)).utcoffset():
        return
    if local.utcoffset() != (local + datetime.timedelta(days=2)).utcoffset():
        return
    minute = local.hour * 60 + local.minute + local.second / 60 + local.microsecond / 6e7
    hours = Hours(frozenset(range(7)), begin, begin + length)
    inside = begin <= minute < begin + length or begin <= minute + 1440 < begin + length
    assert (covered_until([hours], moment, zone) is not None) is inside
