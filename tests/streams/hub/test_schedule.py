"""Hours of the week: how they are written, and when they are, also on days on which the clock is set."""

import datetime
from bisect import bisect_right
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams.days import BERLIN
from wakestream.streams.hub.keep_warm import Hours, covered_until, parse

HOUR = 3600.0


def at(text: str, *, second: bool = False) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN), fold=int(second)).timestamp()


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


ZONES = (
    BERLIN, "America/New_York", "America/St_Johns", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Apia",
    "America/Havana", "UTC", "Asia/Kathmandu", "Africa/Casablanca",
)  # fmt: skip


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[str, float, int]:
    """A zone, a moment and a minute of the day; both often close to a change of its clock."""
    name = draw(st.sampled_from(ZONES))
    zone, begin = ZoneInfo(name), draw(st.integers(1_200_000_000, 1_900_000_000))

    def offset(time: int) -> datetime.timedelta | None:
        return datetime.datetime.fromtimestamp(time, zone).utcoffset()

    times = range(begin, begin + 366 * 86_400, 86_400)
    changes = [time for time in times if offset(time) != offset(time + 86_400)]
    change = draw(st.sampled_from(changes or [begin]))
    day = range(change, change + 86_400)
    change = day[bisect_right(day, False, key=lambda time: offset(time) != offset(day[0])) % len(day)]
    clock = datetime.datetime.fromtimestamp(change - 1, zone)
    near = (clock.hour * 60 + clock.minute + draw(st.integers(-150, 150))) % 1440
    moment = change + draw(st.integers(-9000, 9000) | st.integers(-86_400, 86_400))
    return name, moment, draw(st.just(near) | st.integers(0, 1439))


@settings(max_examples=400)
@given(
    near_a_change(),
    st.just(set(range(7))) | st.sets(st.integers(0, 6), min_size=1),
    st.integers(1, 180) | st.integers(1, 1440),
)
def test_the_hours_are_when_the_clock_shows_them(when: tuple[str, float, int], weekdays: set[int], length: int) -> None:
    zone, moment, begin = when
    hours = Hours(frozenset(weekdays), begin, begin + length)
    clock = datetime.datetime.fromtimestamp(moment, ZoneInfo(zone))
    minute = clock.hour * 60 + clock.minute
    days = ((clock.date() - datetime.timedelta(days=back), minute + 1440 * back) for back in (0, 1))
    shows = any(day.weekday() in weekdays and begin <= passed < begin + length for day, passed in days)
    until = covered_until([hours], moment, zone)
    assert until is None or until > moment
    twice = clock.utcoffset() != clock.replace(fold=1 - clock.fold).utcoffset()
    if shows:
        assert until is not None
    elif not twice:  # the second pass of an hour may come between begin and end
        assert until is None


def test_hours_that_begin_or_end_in_the_hour_that_the_clock_skips_or_shows_twice() -> None:
    assert covered("daily 02:30-03:30", at("2026-03-29 03:00")) == at("2026-03-29 03:30")
    assert covered("daily 01:00-02:30", at("2026-03-29 03:00")) is None
    assert covered("daily 01:00-02:30", at("2026-10-25 02:15")) == at("2026-10-25 02:30", second=True)
    assert covered("daily 02:30-03:00", at("2026-10-25 02:30")) == at("2026-10-25 03:00")


def test_a_lead_over_midnight_does_not_cut_the_hours_of_the_day_before() -> None:
    assert covered("Mon 23:50-23:49", at("2026-03-10 23:45"), lead=1800.0) == at("2026-03-10 23:49")


def covered(text: str, moment: float, lead: float = 0.0) -> float | None:
    return covered_until([parse(text)], moment, BERLIN, lead)


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
