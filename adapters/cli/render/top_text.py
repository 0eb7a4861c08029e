"""The hub at a glance for its operator: GPUs and their jobs, the queue, connections, costs and budgets."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.i18n.catalog import known
from wakestream.adapters.cli.render.job_text import count
from wakestream.adapters.cli.render.status_text import budgets, long, money
from wakestream.adapters.cli.render.table import cut, paragraphs, table, width
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.printable import printable

_GAP = 2
_RIGHT = ("util", "today", "price")
_SPARE = ("price", "for", "util")
"""The columns in the order in which they are left out where there is no room for the jobs."""

FEWEST_OF_JOBS = 20
"""Columns of the jobs, below which other columns are left out."""


def top(answer: m.HubStatus, hub: str, columns: int) -> list[str]:
    """All of it, as lines of at most so many columns; the first is a heading, and so is the first of each table."""
    at = datetime.datetime.fromtimestamp(answer.ts or 0).astimezone()
    on = sum(gpu.get("uptime_s", 0) > 0 for gpu in answer.gpus)
    gpus = t("top.gpus", count=len(answer.gpus) + (answer.more or 0), on=on)
    left, right = printable(f"wakestream top  {hub}"), f"{gpus}  {at:%H:%M:%S}"
    left = cut(left, columns - width(right) - _GAP)
    return [
        left + " " * (columns - width(left) - width(right)) + right,
        "",
        *_gpus(answer, columns),
        "",
        *paragraphs([*_queue(answer), *_connections(answer), *_costs(answer), *budgets(answer)], columns),
    ]


def _gpus(answer: m.HubStatus, columns: int) -> list[str]:
    if not answer.gpus:
        return [t("status.no_gpu")]
    rows = [_row(gpu, answer) for gpu in answer.gpus]
    names = [name for name in rows[0] if name in ("gpu", "state", "jobs") or any(row[name] for row in rows)]
    shown = [{name: t("cost.gpu" if name == "gpu" else f"top.{name}") for name in names}, *rows]
    widths = {name: max(width(row[name]) for row in shown) for name in names}

    def room() -> int:
        return columns - sum(widths[name] + _GAP for name in names if name != "jobs")

    for name in _SPARE:
        if name in names and room() < min(FEWEST_OF_JOBS, widths["jobs"]):
            names.remove(name)
    for row in shown:
        row["jobs"] = cut(row["jobs"], max(1, room()))
    right = [number for number, name in enumerate(names) if name in _RIGHT]
    lines = table([[row[name] for name in names] for row in shown], right)
    return [*lines, *([t("status.more", count=answer.more)] if answer.more else [])]


def _row(gpu: Mapping[str, Any], answer: m.HubStatus) -> dict[str, str]:
    phase, since = gpu["phase"], gpu.get("since")
    today, price = gpu.get("today", {}), gpu.get("price_per_hour")
    return {
        "gpu": printable(gpu["gpu"]),
        "state": t(f"top.{phase}") if known(f"top.{phase}") else printable(phase),
        "for": long(max(0, (answer.ts or 0) - since)) if since else "",
        "util": f"{gpu['util']:.0f} %" if isinstance(gpu.get("util"), int | float) else "",
        "jobs": _jobs(gpu),
        "today": f"{today['cost']:.2f}" if "cost" in today else "",
        "price": f"{price:.2f}" if price is not None else "",
    }


def _jobs(gpu: Mapping[str, Any]) -> str:
    """The jobs that hold a GPU: how many, and the ids that the hub names."""
    number = gpu.get("own", 0) + gpu.get("others", 0)
    if not number:
        return ""
    named: Sequence[str] = gpu.get("jobs") or gpu.get("own_jobs") or ()
    return printable(f"{number}: " + ", ".join(named)) if named else str(number)


def _queue(answer: m.HubStatus) -> Iterator[str]:
    if not answer.queue:
        yield t("status.no_queue")
        return
    by = [t("top.of", jobs=each["jobs"], license=each["license"]) for each in answer.waiting or ()]
    more = t("top.by", licenses=t("list.comma").join(by)) if by else ""
    yield t("top.queue", jobs=count(answer.queue)) + more


def _connections(answer: m.HubStatus) -> Iterable[str]:
    if answer.connections is None:
        return [t("top.no_admin")]
    clients, workers, monitors = (answer.connections.get(name, 0) for name in ("clients", "workers", "monitors"))
    return [t("top.connections", clients=clients, workers=workers, monitors=monitors)]


def _costs(answer: m.HubStatus) -> Iterator[str]:
    spans = {span: [gpu[span]["cost"] for gpu in answer.gpus if "cost" in gpu.get(span, {})] for span in _SPANS}
    # Different money has no sum, and that of a part of the GPUs would be taken for the sum of all.
    if any(spans.values()) and not answer.more and not any("currency" in gpu for gpu in answer.gpus):
        today, month = (money(sum(spans[span]), answer) for span in _SPANS)
        yield t("top.costs", today=today, month=month)


_SPANS = ("today", "month")
