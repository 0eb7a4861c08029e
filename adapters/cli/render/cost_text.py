"""The hub's answer about costs as lines for people: a table, budgets, a forecast and a chart of the days."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import clock_time, count
from wakestream.adapters.cli.render.status_text import SPANS, budgets, long, money, more, saved
from wakestream.adapters.cli.render.table import table
from wakestream.streams.protocol import messages as m

LONGEST_BAR = 30
"""Columns of the day that cost most."""

LEAST = 0.005
"""A smaller amount would be shown as 0.00."""

CHART_DAYS = 14
"""Days of the chart, unless an earlier day was asked for."""


def costs(answer: m.HubStatus) -> list[str]:
    """A table: a line for each GPU and span."""
    rows = [tuple(t(f"cost.{name}") for name in ("gpu", "span", "on", "off", "cost", "saved"))]
    for gpu in answer.gpus:
        rows += [_row(gpu, span) for span in SPANS if span in gpu and (("asked" in gpu) == (span == "asked"))]
    if len(rows) == 1:
        return [t("status.no_gpu")]
    if len(answer.gpus) + (answer.more or 0) > 1:  # without a cost where prices are in different money
        totals: Mapping[str, Any] = (answer.costs or {}).get("totals", {})
        rows += [_row({"gpu": t("budget.all"), **totals}, span) for span in totals]
    prices = sorted({
        (gpu["price_per_hour"], gpu.get("currency") or answer.currency or "")
        for gpu in answer.gpus if "price_per_hour" in gpu
    })  # fmt: skip
    named = t("list.and").join(f"{price:g} {currency}".rstrip() for price, currency in prices)
    lines = [t("cost.mixed", currencies=t("list.and").join(mixed))] if (mixed := _currencies(answer)) else []
    lines += [t("cost.price", prices=named) if prices else t("status.no_price")]
    known_since = min((gpu["known_since"] for gpu in answer.gpus if "known_since" in gpu), default=None)
    if known_since is not None:
        zone = answer.zone or "UTC"
        day = datetime.datetime.fromtimestamp(known_since, ZoneInfo(zone))
        lines.append(t("cost.book", day=f"{day:%Y-%m-%d %H:%M}", zone=zone))
    lines = [*more(answer), *budgets(answer), *forecast(answer), *saved(answer), *lines]
    return [*table(rows, right=(2, 3, 4, 5)), *lines]


def _row(gpu: Mapping[str, Any], name: str) -> tuple[str, ...]:
    span, currency = gpu[name], f" {gpu['currency']}" if "currency" in gpu else ""
    amounts = [f"{span[key]:.2f}{currency}" if key in span else "-" for key in ("cost", "saved")]
    off = long(max(0, span["of_s"] - span["on_s"])) if "of_s" in span else "-"
    return (gpu["gpu"], t(f"span.{name}"), long(span["on_s"]), off, *amounts)


def _currencies(answer: m.HubStatus) -> Sequence[str]:
    """The money of the prices, if it is not the same for all; then there are no sums."""
    currencies: Sequence[str] = (answer.costs or {}).get("currencies", ())
    return currencies


def forecast(answer: m.HubStatus) -> list[str]:
    """What this month will cost, and how that is known."""
    expected = (answer.costs or {}).get("forecast")
    if not expected:
        return []
    month, mean = money(expected["month"], answer), money(expected["mean"], answer)
    return [t("cost.forecast", month=month, mean=mean, days=expected["days"])]


def chart(answer: m.HubStatus, bar: str, *, all_days: bool = False) -> list[str]:
    """A bar for each day: its cost, or without a price its hours."""
    known = {day["day"]: day for day in (answer.costs or {}).get("days", ())}
    if not known:
        return []
    first, last = (datetime.date.fromisoformat(each) for each in (min(known), max(known)))
    if not all_days:
        first = max(first, last - datetime.timedelta(days=CHART_DAYS - 1))
    dates = [str(first + datetime.timedelta(days=number)) for number in range((last - first).days + 1)]
    priced = not _currencies(answer) and any("cost" in day for day in known.values())
    sizes = [known.get(date, {}).get("cost" if priced else "on_s", 0) for date in dates]
    most = max(sizes) or 1
    rows = [
        (date, money(size, answer) if priced else long(size), bar * round(LONGEST_BAR * size / most))
        for date, size in zip(dates, sizes, strict=True)
    ]
    return ["", *(line.rstrip() for line in table(rows, right=(1,)))]


def jobs(answer: m.HubStatus) -> list[str]:
    """A table: a line for each of the last jobs."""
    listed: Sequence[Mapping[str, Any]] = (answer.costs or {}).get("jobs", ())
    if not listed:
        return [t("cost.no_jobs")]
    told = "share_s" in listed[0]  # hubs of earlier versions share the time among the jobs that hold a GPU
    names = ("job", "kind", "gpu", "used", "cost", *(("share",) if told else ()), "ended")
    rows = [tuple(t(f"cost.{name}") for name in names)]
    for job in listed:
        ended = clock_time(job["ended"]) if "ended" in job else t("cost.open")
        ended = t("cost.unsaid", time=ended) if job.get("unsaid") else ended
        shares = (_share(job, answer),) if told else ()
        rows.append((job["id"], job["kind"], job["gpu"], long(job["used_s"]), _amount(job, answer), *shares, ended))
    return [*table(rows, right=(3, 4, 5) if told else (3, 4)), *([t("cost.shares")] if told else [])]


def _share(job: Mapping[str, Any], answer: m.HubStatus) -> str:
    if "share" not in job:
        return long(job["share_s"])
    return _amount({**job, "used_s": job["share_s"], "cost": job["share"]}, answer)


def estimate(found: Mapping[str, Any]) -> list[str]:
    """What jobs take, as the daemon estimates it (docs/protocol-api.md); no line if it is not known."""
    if not found:
        return []
    jobs, currency = count(found["jobs"]), found.get("currency") or ""

    def valued(text: str, seconds: float, cost: float | None, **values: str) -> str:
        amount = "" if cost is None else f"{cost:.2f} {currency}".rstrip()
        return t(text if cost is None else f"{text}.cost", jobs=jobs, time=long(seconds), cost=amount, **values)

    lines = [valued("many.takes", found["used_s"], found.get("cost"))]
    parts = [t(f"many.{part}", time=long(found[f"{part}_s"])) for part in ("wake", "idle") if found.get(f"{part}_s")]
    if parts:
        lines.append(valued("many.all", found["all_s"], found.get("all_cost"), parts=t("list.and").join(parts)))
    if "share_s" in found:
        lines.append(valued("many.share", found["share_s"], found.get("share")))
    if "done_at" in found:
        lines.append(t("many.when", time=clock_time(found["done_at"])))
    return lines


def licenses(answer: m.HubStatus) -> list[str]:
    """A table: what each license used this month, and what ran without a job."""
    costs_ = answer.costs or {}
    rows = [tuple(t(f"cost.{name}") for name in ("license", "used", "cost"))]
    used = [(row["license"] or t("cost.others"), row) for row in costs_.get("licenses", ())]
    used += [(t("cost.unused"), costs_["unused"])] if "unused" in costs_ else []
    rows += [(name, long(row["used_s"]), _amount(row, answer)) for name, row in used]
    return table(rows, right=(1, 2))


def _amount(row: Mapping[str, Any], answer: m.HubStatus) -> str:
    if "cost" not in row:
        return "-"
    amount = "<0.01" if row["cost"] < LEAST and row["used_s"] > 0 else f"{row['cost']:.2f}"
    return f"{amount} {row.get('currency', answer.currency or '')}".rstrip()
