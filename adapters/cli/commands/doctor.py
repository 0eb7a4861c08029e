"""`wakestream doctor`: looks at all that a job needs, and says what to do where something is amiss."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.doctor.result import CheckResult
from wakestream.adapters.cli.doctor.run import examine
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.table import hanging, terminal_columns, width
from wakestream.adapters.cli.service import begin
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon.discovery import folder
from wakestream.adapters.runtime.printing import console, say_json
from wakestream.streams.protocol.printable import printable
from wakestream.streams.recording.event_json import plain_text

EXAMPLES = ("doctor", "doctor --wake", "doctor --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--wake", "also wake the GPU briefly, without a job")
    flags.add(parser, "--wake-timeout TIME", "time limit for that (default 15min)", type=flags.time, default="15min")
    flags.add(parser, "--json", "one JSON object for each finding")
    flags.worker_url(parser)
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """Examine; 0 when there is no fault, 1 otherwise."""
    settings = begin(args, usual_level="CRITICAL")
    return asyncio.run(_examine(settings, args))


async def _examine(found: Settings, args: argparse.Namespace) -> int:
    worst, within = exit_codes.DONE, args.wake_timeout if args.wake else None
    async for finding in examine(found, Path.cwd(), wake_within=within, state=folder(args.state)):
        worst = max(worst, show((finding,), args))
    return worst


def show(findings: Iterable[CheckResult], args: argparse.Namespace) -> int:
    """Print them as the command line wants them; 1 if one of them is a fault, else 0."""
    say, worst = _say_json if args.json else _say_amiss if flags.is_quiet(args) else _say, exit_codes.DONE
    for finding in findings:
        say(finding)
        worst = exit_codes.FAILED if finding.level == "fault" else worst
    return worst


def _say_json(finding: CheckResult) -> None:
    say_json({name: plain_text(text) for name, text in asdict(finding).items()})


_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red", "skipped": "dim"}


def _say_amiss(finding: CheckResult) -> None:
    if finding.level in ("warning", "fault"):
        _say(finding)


def _say(finding: CheckResult) -> None:
    level = t(f"doctor.{finding.level}")
    level += " " * (8 - width(level))
    out = console(soft_wrap=True)
    (first, *says), todo = lines(finding, terminal_columns())
    out.print(Text.assemble((level, _STYLES[finding.level]), first))
    for line in says:
        out.print(Text(line))
    for line in todo:
        out.print(Text(line, style="" if finding.level == "fault" else "dim"))


def lines(finding: CheckResult, columns: int | None) -> tuple[list[str], list[str]]:
    """The result, its first line after the level (eight columns wide), and what to do."""
    room = None if columns is None else columns - 8
    first, *says = hanging(f" {finding.check:9} ", printable(finding.says), room)
    todo = hanging(f"{'':18} -> ", printable(finding.todo), columns) if finding.todo else []
    return [first, *(" " * 8 + line for line in says)], todo
