"""`wakestream cost`: how long the GPUs ran, what that cost, and what it saved against leaving them on."""

from __future__ import annotations

import argparse
import datetime
import re
import sys

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.commands.status import ask_and_print
from wakestream.adapters.cli.render import cost_text
from wakestream.streams.protocol import messages as m

EXAMPLES = ("cost", "cost --since 30d", "cost --jobs", "cost --since 2026-01-01 --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    text = "from this day on: 2026-01-31, or 30d for thirty days ago (default: today, this month and total)"
    flags.add(parser, "--since DAY", text, type=day)
    flags.add(parser, "--jobs", "what each of your last jobs cost")
    flags.add(parser, "--licenses", "what your license used this month, and the others together (admin: each)")
    flags.add(parser, "--json", "the hub's answer as one JSON object")
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the hub and print the costs."""
    return ask_and_print(args, lambda answer: _lines(args, answer), args.since, costs=True)


def _lines(args: argparse.Namespace, answer: m.HubStatus) -> list[str]:
    if args.jobs:
        return cost_text.jobs(answer)
    if args.licenses:
        return cost_text.licenses(answer)
    bar = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    return [*cost_text.costs(answer), *cost_text.chart(answer, bar, all_days=args.since is not None)]


def day(text: str) -> int:
    days = re.fullmatch(r"(\d{1,4})d", text)
    if days:
        return int((datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=int(days[1]))).timestamp())
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no day; write 2026-01-31, or 30d") from None
    return int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp())
