"""Days, months and clock times in a time zone. Pure: each function gets the time, in UNIX seconds, as an argument.

Days are numbered from 1970-01-01, which is 0. Each day begins at its first moment in the zone, so the days follow each
other without gaps, also where the clock is set forward or back at midnight.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

UTC = "UTC"

DAY = 86_400.0
"""Seconds of a day of UTC."""

_EPOCH = date(1970, 1, 1).toordinal()


def day_of(at: float, zone: str = UTC) -> int:
    """The day of `at`.

    Example:
        >>> day_of(86_400.0), day_of(86_400.0, "America/New_York")
        (1, 0)
    """
    if zone == UTC:
        return math.floor(at / DAY)
    day = datetime.fromtimestamp(at, ZoneInfo(zone)).toordinal() - _EPOCH
    return day + 1 if begin_of(day + 1, zone) <= at else day  # the clock was set back over midnight


@lru_cache(maxsize=4096)
def begin_of(day: int, zone: str = UTC) -> float:
    """When `day` begins."""
    if zone == UTC:
        return day * DAY
    # Of a midnight that is skipped, this is the moment of the skip; of one that comes twice, the first.
    return moment(day, 0, zone)


@lru_cache(maxsize=4096)
def moment(day: int, minute: int, zone: str = UTC, *, last: bool = False) -> float:
    """When the clock shows `minute` (since midnight) on `day`: the first time, or the last, if it does so twice.

    For a time that the clock skips it is the moment at which it does.
    """
    day, minute = day + minute // 1440, minute % 1440
    on = date.fromordinal(_EPOCH + day)
    shown = datetime(on.year, on.month, on.day, minute // 60, minute % 60, tzinfo=ZoneInfo(zone))
    first, second = shown.timestamp(), shown.replace(fold=1).timestamp()
    if first <= second:
        return second if last else first
    before = datetime.fromtimestamp(second, shown.tzinfo).utcoffset()
    while first - second > 1:
        middle = (first + second) // 2
        if datetime.fromtimestamp(middle, shown.tzinfo).utcoffset() == before:
            second = middle
        else:
            first = middle
    return first


def first_of_month(day: int) -> int:
    """The first day of the month of `day`."""
    return day - date.fromordinal(_EPOCH + day).day + 1


def next_month(day: int) -> int:
    """The first day of the month after that of `day`."""
    return first_of_month(first_of_month(day) + 31)


def weekday(day: int) -> int:
    """0 for Monday to 6 for Sunday."""
    return date.fromordinal(_EPOCH + day).weekday()


def date_text(day: int) -> str:
    """The date of `day`, as 2026-01-31."""
    return date.fromordinal(_EPOCH + day).isoformat()


def time_text(at: float, zone: str) -> str:
    """`at` in words for people.

    Example:
        >>> time_text(0.0, "Europe/Berlin")
        '1970-01-01 01:00 Europe/Berlin'
    """
    return f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"
