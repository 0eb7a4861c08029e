"""Keep-warm hours: GPUs that are on before the first job of a day comes. Pure.

The hub wakes such a GPU before the hours begin, by as much as most boots take. In the hours it answers the monitor that
the GPU is in use, so that the idle time does not stop it. A budget that is spent ends both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.ledger import boot_times
from wakestream.streams.hub.local_time import UTC, day_of, moment, weekday
from wakestream.streams.hub.state import ALL, Gpu, HubState
from wakestream.streams.protocol import messages as m

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
    match = _HOURS.fullmatch(text.strip())
    if match is None:
        raise ValueError("write for example Mon-Fri 09:00-18:00")
    begin, end = _minute(match[2], match[3]), _minute(match[4], match[5])
    if begin == 1440:
        raise ValueError("the hours cannot begin at 24:00; write 00:00")
    days = frozenset(day for part in match[1].lower().split(",") for day in _days(part))
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
    days = range(day_of(at, zone) - 1, day_of(at + lead, zone) + 1)
    ends = [
        end
        for window in hours
        for day in days
        if weekday(day) in window.weekdays
        and moment(day, window.begin, zone) - lead <= at < (end := moment(day, window.end, zone, last=True))
    ]
    return max(ends, default=None)


def kept_in(history: Mapping[str, Any]) -> Callable[[str, float], bool] | None:
    """Whether a GPU is kept on at a time, by the hours that a hub tells with its history; None if it has none."""
    texts: Mapping[str, Iterable[str]] = history.get("keep_warm") or {}

    @lru_cache(maxsize=100_000)
    def in_minute(name: str, minute: int) -> bool:
        hours = map(parse, (*texts.get(ALL, ()), *texts.get(name, ())))
        return covered_until(hours, minute * 60.0, history.get("zone", UTC)) is not None

    return (lambda name, now: in_minute(name, int(now // 60))) if texts else None


LEAD = 300.0
"""Seconds before the hours at which a GPU is woken, until the hub has seen boots."""

LONGEST_LEAD = 1800.0
"""The most of them, however long boots take."""

AGAIN = 300.0
"""Seconds after which a monitor whose GPU is still off is asked again."""

_OFF = ("off", "failed", "unknown")


def warm_until(state: HubState, gpu: Gpu, now: float) -> float | None:
    """Until when this GPU is kept on, by its hours or by a person; None if it is not, or its budget is spent."""
    ends = [end for end in (hours_end(state, gpu, now), gpu.kept_until) if end is not None and end > now]
    return None if state.blocks(gpu.name) else max(ends, default=None)


def hours_end(state: HubState, gpu: Gpu, now: float) -> float | None:
    """When the hours end in which this GPU is on; None outside them, and in hours in which a person turned it off."""
    texts = (*state.limits.keep_warm.get(ALL, ()), *state.limits.keep_warm.get(gpu.name, ()))
    if not texts or state.blocks(gpu.name):
        return None
    times = (now, gpu.stopped_at) if gpu.stopped_at > 0 else (now,)
    end, *stopped = (covered_until(map(parse, texts), at, state.limits.zone, _lead(state, gpu)) for at in times)
    return None if end in stopped else end


def _lead(state: HubState, gpu: Gpu) -> float:
    boots = boot_times(gpu.boots or (seconds for _, seconds in state.boots))
    return LEAD if boots is None else min(LONGEST_LEAD, boots["p90"])


def keeps(state: HubState, gpu: Gpu, now: float) -> bool:
    """Whether this GPU must not be stopped now although no job needs it. One that does not serve may be."""
    return gpu.phase in ("online", "draining") and warm_until(state, gpu, now) is not None


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """Wake the GPUs whose hours have begun or are about to."""
    if not state.limits.keep_warm:
        return
    for name in sorted(state.named() & state.gpus.keys()):
        gpu = state.gpus[name]
        if gpu.phase in _OFF and now - gpu.warmed >= AGAIN and hours_end(state, gpu, now) is not None:
            decision.fact(f.GpuWarmed(name, now))
            boot = m.Boot(request_id=f"warm-{name}", source="hub", msg="its keep-warm hours", gpu=name)
            decision.send(state.watching(name), boot)
