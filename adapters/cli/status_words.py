"""The hub's answer about its GPUs as lines for people."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from wakestream.adapters.cli.words import duration
from wakestream.streams import messages as m

PHASES = {
    "online": "on and ready for work",
    "booted": "the machine is on, its worker is not ready yet",
    "starting": "being started",
    "draining": "about to be stopped",
    "stopping": "being stopped",
    "off": "off",
    "lost": "its worker is gone, and it is being looked at",
    "no_capacity": "the provider has none to give at the moment",
    "failed": "could not be started",
    "unknown": "nobody can say whether it runs",
}

SPANS = (("today", "today"), ("month", "this month"), ("asked", "since that day"), ("all", "in all"))
"""Spans of an answer and what they are called; days and months are those of UTC."""


def status(answer: m.HubStatus) -> list[str]:
    """How each GPU is, who holds it, what it has cost, and how long a boot takes."""
    lines: list[str] = []
    for gpu in answer.gpus:
        lines += _gpu(gpu, answer.ts or 0)
    return [*(lines or ["the hub knows no GPU yet"]), *_more(answer), *_rest(answer)]


def costs(answer: m.HubStatus) -> list[str]:
    """A table: a line for each GPU and span."""
    rows: list[tuple[str, ...]] = [("GPU", "SPAN", "ON", "OFF", "COST", "SAVED")]
    for gpu in answer.gpus:
        spans = [span for span in SPANS if span[0] in gpu and (("asked" in gpu) == (span[0] == "asked"))]
        rows += [_row(gpu, name, word) for name, word in spans]
    if len(rows) == 1:
        return ["the hub knows no GPU yet"]
    return [*_table(rows), *_more(answer), *_how(answer)]


def _gpu(gpu: Mapping[str, Any], now: int) -> list[str]:
    for_ = f", for {_long(max(0, now - gpu['since']))}" if gpu.get("since") else ""
    lines = [f"GPU {gpu['gpu']}: {PHASES.get(gpu['phase'], gpu['phase'])}{for_}"]
    if gpu.get("why"):
        lines.append(f"  why: {gpu['why']}")
    lines.append(f"  {_running(gpu)}")
    lines.append(f"  {_holders(gpu)}")
    lines += [f"  {word}: {_span(gpu[name])}" for name, word in SPANS[:2] if name in gpu]
    if "price_per_hour" not in gpu:
        lines.append("  no price is set; `wakestream hub --price-per-hour` would tell what it costs")
    return lines


def _running(gpu: Mapping[str, Any]) -> str:
    uptime = gpu.get("uptime_s", 0)
    if gpu["phase"] == "unknown":
        return f"counted as running, for {_long(uptime)}" if uptime else "counted as off, as when it was last seen"
    return f"running for {_long(uptime)} without a break" if uptime else "not running"


def _holders(gpu: Mapping[str, Any]) -> str:
    own, others = gpu.get("own", 0), gpu.get("others", 0)
    if not own and not others:
        return "held by nobody"
    named = list(gpu.get("own_jobs", ()))
    ids = ", ".join(named) + (", …" if own > len(named) else "")
    mine = f"{_jobs(own)} of yours ({ids})" if own else ""
    theirs = f"{_jobs(others)} of others" if others else ""
    return "held by " + " and ".join(filter(None, (mine, theirs)))


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"


def _span(span: Mapping[str, Any]) -> str:
    text = f"on for {_long(span['on_s'])} of {_long(span['of_s'])}"
    if "cost" in span:
        text += f", cost {span['cost']:.2f}, saved {span['saved']:.2f}"
    return text


def _more(answer: m.HubStatus) -> list[str]:
    return [f"and {answer.more} more GPUs, for which the answer had no room"] if answer.more else []


def _rest(answer: m.HubStatus) -> list[str]:
    lines = [f"{_jobs(answer.queue)} waiting, {answer.own_queued} of them yours" if answer.queue else "no job waits"]
    if answer.boot_s:
        p50, p90 = (duration(answer.boot_s.get(name, 0.0)) for name in ("p50", "p90"))
        lines.append(f"a boot usually takes {p50}, nine of ten at most {p90} (the last {answer.boots})")
    else:
        lines.append("no boot has been seen yet, so nobody can say how long one takes")
    if not answer.monitors:
        lines.append("no monitor is connected, so nobody can start or stop a GPU")
    return lines


def _row(gpu: Mapping[str, Any], name: str, word: str) -> tuple[str, ...]:
    span = gpu[name]
    money = [f"{span[key]:.2f}" if key in span else "-" for key in ("cost", "saved")]
    return (gpu["gpu"], word, _long(span["on_s"]), _long(max(0, span["of_s"] - span["on_s"])), *money)


def _long(seconds: float) -> str:
    """As `duration`, but from two days on in days and hours, and nothing for no time at all."""
    if seconds < 2 * 86_400:
        return duration(seconds) if seconds else "0 s"
    days, rest = divmod(round(seconds / 3600), 24)
    return f"{days} d {rest:02} h"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(_cell(*cell) for cell in enumerate(zip(row, widths, strict=True))) for row in rows]


def _cell(column: int, sized: tuple[str, int]) -> str:
    text, width = sized
    return text.ljust(width) if column < 2 else text.rjust(width)


def _how(answer: m.HubStatus) -> list[str]:
    lines = []
    prices = sorted({gpu["price_per_hour"] for gpu in answer.gpus if "price_per_hour" in gpu})
    if prices:
        lines.append(f"at {' and '.join(f'{price:g}' for price in prices)} per hour; saved: against a GPU always on")
    else:
        lines.append("no price is set; `wakestream hub --price-per-hour` would tell what it costs")
    known = min((gpu["known_since"] for gpu in answer.gpus if "known_since" in gpu), default=None)
    if known is not None:
        day = datetime.datetime.fromtimestamp(known, datetime.UTC)
        lines.append(f"days are those of UTC; the book begins {day:%Y-%m-%d %H:%M} UTC")
    return lines
