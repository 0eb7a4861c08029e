"""The daemon's jobs as a table: files, state, percent, time left and cost, as much of it as the lines have room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.job_progress import JobProgress
from wakestream.adapters.cli.render.table import bar, cut, table, width
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.protocol.printable import printable

BAR = 10
"""Columns of a job's bar."""

_GAP = 2
_RIGHT = ("percent", "eta", "cost", "priority")
_SPARE = (
    *(("output", 40), ("since", 30), ("bar", 24), ("kind", 20), ("priority", 20)),
    *((name, 12) for name in ("cost", "eta", "percent")),
)
"""The columns that are left out where there is no room, in this order, while the file names have fewer columns."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What jobs cost by id, with the currency."""

    jobs: Mapping[str, float]
    currency: str = ""

    def text(self, job: str) -> str:
        """The cost of a job; empty if it is not known."""
        amount = self.jobs.get(job)
        return "" if amount is None else f"{amount:.2f} {self.currency}".rstrip()


def jobs_table(
    jobs: Sequence[tuple[Mapping[str, Any], JobProgress]], costs: Costs, now: float, columns: int | None = None
) -> list[str]:
    """The jobs as lines below a heading.

    Args:
        jobs: Each job as the daemon lists it, with its progress.
        costs: What they cost. Without any known cost there is no such column.
        now: UNIX seconds.
        columns: Of a line; None for no limit.
    """
    rows = [_row(job, progress, costs, now) for job, progress in jobs]
    names = [name for name in _names(rows) if name != "bar" or columns is not None]
    shown = [{name: t(f"jobs.{name}") if name != "bar" else "" for name in names}, *rows]
    if columns is not None:
        # Leave columns out and shorten the file names until the lines fit.
        widths = {name: max(width(row[name]) for row in shown) for name in names}

        def room() -> int:
            return columns - sum(widths[name] + _GAP for name in names if name != "files")

        for name, fewest in _SPARE:
            if name in names and room() < min(fewest, widths["files"]):
                names.remove(name)
        for row in shown:
            row["files"] = cut(row["files"], max(1, room()))
    right = [number for number, name in enumerate(names) if name in _RIGHT]
    return table([[row[name] for name in names] for row in shown], right)


def _names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns: bar, cost and priority are shown if a job has them, and the kind if one is not the usual one."""
    idle = {"bar": "", "cost": "", "priority": "0", "kind": LIPSYNC}
    return [name for name in rows[0] if any(row[name] != idle.get(name) for row in rows)]


def _row(job: Mapping[str, Any], progress: JobProgress, costs: Costs, now: float) -> dict[str, str]:
    open_ = job["state"] == "open"
    percent, left = (progress.percent(now), progress.left(now)) if open_ else (None, None)
    return {
        "job": job["id"],
        "files": files(job),
        "kind": printable(str(job.get("kind", LIPSYNC))),
        "state": _state(job, progress, now),
        "bar": "" if percent is None else bar(percent / 100, BAR),
        "percent": "" if percent is None else f"{percent:.0f} %",
        "eta": "" if left is None else words.duration(left, tenths=False),
        "cost": costs.text(job["id"]),
        "since": words.duration(max(0.0, now - (job["ended_at"] or job["accepted_at"])), tenths=False),
        "priority": str(job["priority"]),
        "output": job["output"],
    }


def files(job: Mapping[str, Any]) -> str:
    """The names of a job's input files; its kind if it has none."""
    names = [name for field, name in job["names"].items() if field != "output"]
    return printable(" + ".join(names) or str(job.get("kind", "")))


def _state(job: Mapping[str, Any], progress: JobProgress, now: float) -> str:
    """The stage of an open job, or that it pauses; how another one ended."""
    if job["state"] != "open":
        state = words.state(job["state"])
        return t("state.reused", state=state) if (job["outcome"] or {}).get("reused") else state
    if progress.pause(now) is not None:
        return t("state.paused")
    if progress.waits:
        return t("state.waits")
    place = progress.place
    return words.state(job["stage"]) if place is None else t("state.queued", place=place)
