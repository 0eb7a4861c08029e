"""`wakestream status`: how the GPUs are, who holds them, and what they have cost."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.hub_answers import hub_status
from wakestream.adapters.cli.render.status_text import status
from wakestream.adapters.cli.render.table import paragraphs, terminal_columns
from wakestream.adapters.cli.service import begin
from wakestream.adapters.runtime.printing import answer
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

EXAMPLES = ("status", "status --json --hub http://hub.example:8765")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--json", "the hub's answer as one JSON object")
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the hub and print its answer."""
    return ask_and_print(args, lambda answer: paragraphs(status(answer), terminal_columns()))


def ask_and_print(
    args: argparse.Namespace,
    words: Callable[[m.HubStatus], list[str]],
    since: int | None = None,
    *,
    costs: bool = False,
) -> int:
    """Ask the hub; print its answer in words, or as JSON."""
    settings = begin(args, usual_level="CRITICAL")  # what is wrong is said once, as this command's own answer
    told = asyncio.run(hub_status(settings, args.state, since, costs=costs))
    answer(as_plain(told), *(() if args.json else words(told)), as_json=args.json)
    return exit_codes.DONE


def as_plain(told: m.HubStatus) -> dict[str, Any]:
    """The hub's answer as an object for JSON."""
    return {"ts": told.ts, **wire.to_frame(told).get("data", {})}
