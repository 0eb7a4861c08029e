"""`wakestream plan`: what other settings would have cost, and how long jobs would have waited, by the hub's history."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands.cost import day
from wakestream.adapters.cli.hub_answers import State, hub_status
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import count
from wakestream.adapters.cli.render.status_text import long
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.cli.service import begin
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.runtime.printing import answer
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.hub.keep_warm import kept_in
from wakestream.streams.placement.plan import Plan, Row, Setting, as_now, picture, plan, recorded
from wakestream.streams.placement.simulate import DAY, Job
from wakestream.streams.protocol import messages as m

EXAMPLES = ("plan", "plan --since 90d", "plan --svg plan.svg", "plan --json --key-file admin.key")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    text = "the jobs from this day on: 2026-01-31, or 30d for thirty days ago (default: 30d)"
    flags.add(parser, "--since DAY", text, type=day)
    flags.add(parser, "--svg FILE", "write a picture of cost and wait to this file", type=Path)
    flags.add(parser, "--json", "the result as one JSON object")
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the hub for its history, simulate it, and print the result."""
    settings = begin(args, usual_level="CRITICAL")
    first = int((time.time() - 30 * DAY if args.since is None else args.since) // DAY)
    status, history, jobs = asyncio.run(_history(settings, args.state, first))
    if not jobs or not history["gpus"]:
        raise WakestreamError(
            "no job has ended since then; use the hub first, or an earlier --since", code="no_history"
        )
    planned = plan(jobs, as_now(status.gpus, history, kept_in(history)))
    if args.svg is not None:
        labels = [_name(row.setting) for row in planned.rows]
        args.svg.write_text(
            picture(planned.rows, labels, (t("cost.cost"), t("option.wait")), planned.best), encoding="utf-8"
        )
    told = {"currency": status.currency} if status.currency else {}
    answer({**planned.plain(), **told}, *(() if args.json else _lines(status, planned)), as_json=args.json)
    return exit_codes.DONE


async def _history(settings: Settings, state: State, first: int) -> tuple[m.HubStatus, Mapping[str, Any], list[Job]]:
    """The hub's last answer, and the jobs of all its answers."""
    jobs: list[Job] = []
    at: tuple[int, int] | None = (first, 0)
    while at is not None:
        status = await hub_status(settings, state, history=at)
        if status.history is None:
            why = (
                "the hub told no history: the key is not an admin's (use --key-file), or the hub is too old; update it"
            )
            raise WakestreamError(why, code="no_history")
        history = status.history
        jobs += recorded(history)
        at = tuple(history["next"]) if "next" in history else None
    return status, history, sorted(jobs, key=lambda job: job.at)


def _name(setting: Setting) -> str:
    value = long(float(setting.value)) if setting.name in ("idle", "patience") else setting.value
    return t(f"option.{setting.name}", value=value)


def _lines(status: m.HubStatus, found: Plan) -> list[str]:
    priced = any("price_per_hour" in gpu for gpu in status.gpus)
    currency = f" {status.currency}" if status.currency else ""

    def amount(row: Row) -> str:
        return f"{row.cost:.2f}{currency}" if priced else long(row.cost * 3600)

    rows = [tuple(t(name) for name in ("option.setting", "cost.cost", "option.wait", "option.p95", "option.sure"))]
    for row in found.rows:
        sure = f"{row.sure:.0%}" if row.sure else "-"
        rows.append((_name(row.setting), amount(row), long(row.mean), long(row.p95), sure))
    lines = [*table(rows, right=(1, 2, 3, 4)), t("option.from", jobs=count(found.jobs), days=str(found.days))]
    lines += [t("option.left_out", n=found.left_out, jobs=found.jobs)] if found.left_out else []
    if not found.enough:
        return [*lines, t("option.too_little")]
    if found.best is None:
        return [*lines, t("option.stay")]
    best, now = found.best, found.rows[0]
    text = t(
        "option.best", setting=_name(best.setting), sure=f"{best.sure:.0%}", cost=amount(best), now=amount(now),
        wait=long(best.mean), before=long(now.mean),
    )  # fmt: skip
    return [*lines, text]
