"""`--exit-on-refusal`: a program that the hub does not take ends, instead of coming again and again."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from reactivex import Observable

from wakestream.adapters.cli import flags
from wakestream.operators.model.errors import HubRefused
from wakestream.operators.model.ports import LinkDown


def flag(parser: argparse.ArgumentParser) -> None:
    """Declare it."""
    text = "exit with code 2 when the hub rejects this program's key (default: retry with backoff)"
    flags.add(parser, "--exit-on-refusal", text)


class Refusal:
    """Watches a link where the user asked for it; sets `stop` at the first refusal."""

    def __init__(self, stop: asyncio.Event, args: argparse.Namespace) -> None:
        self._stop, self._asked = stop, getattr(args, "exit_on_refusal", False)
        self._refused: LinkDown | None = None

    def listen(self, events: Observable[Any]) -> None:
        """Hear what becomes of a link: its `events`."""

        def hear(event: object) -> None:
            if self._asked and isinstance(event, LinkDown) and event.code:
                self._refused = event
                self._stop.set()

        events.subscribe(hear)

    def check(self) -> None:
        """Raise `HubRefused` if that was why the program stopped."""
        if self._refused is not None and self._refused.code is not None:
            raise HubRefused(self._refused.reason, code=self._refused.code)
