"""Hours of the week, such as `Mon-Fri 09:00-18:00`: what they mean at a moment in a time zone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from wakestream.streams.hub.local_time import day_of, moment, weekday

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_HOURS: Final = re.compile(r"(\S+)\s+(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)")


class Hours(NamedTuple):
    """From minute `begin` on each of these weekdays (0 is Monday) to minute `end`, which may be on the day after."""

    weekdays: frozenset[int]
    begin: int
    end: int


@lru_cache(maxsize=256)
def parse(text: str) -> Hours:
    """Read hours.

    Example:
        >>> parse("Mon-Wed,Sat 22:00-02:30")
        Hours(weekdays=frozenset({0, 1, 2, 5}), begin=1320, end=1590)

    Args:
        text: Weekdays (`daily`, names, ranges, joined by commas), then a begin and an end. An end that is not after the
            begin is on the next day.

    Raises:
        ValueError: It cannot be read.
    """
    found = _HOURS.fullmatch(text.strip())
    if found is None:
        raise ValueError("write for example Mon-Fri 09:00-18:00")
    begin, end = _minute(found[2], found[3]), _minute(found[4], found[5])
    if begin == 1440:
        raise ValueError("the hours cannot begin at 24:00; write 00:00")
    days = frozenset(day for part in found[1].lower().split(",") for day in _days(part))
    return Hours(days, begin, end if end > begin else end + 1440)


def _minute(hour: str, minute: str) -> int:
    number = 60 * int(hour) + int(minute)
    if int(minute) > 59 or number > 1440:
        raise ValueError(f"{hour}:{minute} is no time; write 00:00 to 24:00")
    return number


def _days(part: str) -> Iterable[int]:
    if part == "daily":
        return range(7)
    first, dash, last = part.partition("-")
    if first[:3] not in DAYS or (dash and last[:3] not in DAYS):
        raise ValueError(
            f"{part!r} is no weekday; write Mon, Tue, Wed, Thu, Fri, Sat, Sun, a range such as Mon-Fri, or daily"
        )
    begin = DAYS.index(first[:3])
    end = DAYS.index(last[:3]) if dash else begin
    return ((begin + step) % 7 for step in range((end - begin) % 7 + 1))


def covered_until(hours: Iterable[Hours], at: float, zone: str, lead: float = 0.0) -> float | None:
    """When the hours end that hold `at`; None if none do.

    Args:
        hours: The hours.
        at: A time in UNIX seconds.
        zone: The time zone of the hours.
        lead: Seconds by which each begin is earlier.
    """
    today = day_of(at + lead, zone)
    ends = [
        end
        for each in hours
        for day in (today - 1, today)
        if weekday(day) in each.weekdays
        and moment(day, each.begin, zone) - lead <= at < (end := moment(day, each.end, zone))
    ]
    return max(ends, default=None)
