"""`wakestream top`: the hub at a glance, kept up to date, for its operator."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands.status import as_plain
from wakestream.adapters.cli.hub_answers import State, daemon_or_key, hub_status, statuses
from wakestream.adapters.cli.i18n.catalog import known, t
from wakestream.adapters.cli.render.display import is_terminal
from wakestream.adapters.cli.render.job_text import count
from wakestream.adapters.cli.render.status_text import budgets, depot, long, money, more, plan, starts
from wakestream.adapters.cli.render.table import GAP, cut, fitted, paragraphs, terminal_columns, width
from wakestream.adapters.cli.service import begin, run_program, unless_stopped
from wakestream.adapters.config.addresses import host_of
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.runtime import printing
from wakestream.adapters.runtime.printing import answer, say
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.ports import LinkDown
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.printable import printable

EXAMPLES = ("top --hub https://hub.example:8765 --key-file admin.key", "top --once --json")

EVERY = 2.0
"""Seconds between two questions to the hub."""

KEYS_EVERY = 0.1
WIDTH_OF_A_PIPE = 80


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--once", "print it once")
    flags.add(parser, "--json", "the hub's answer as one JSON object, each time as one line")
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """Show it until `q` or Ctrl-C; in a pipe, print it again and again."""
    settings = begin(args, usual_level="CRITICAL")
    hub = asyncio.run(_hub(settings, args.state))
    if args.once:
        told = asyncio.run(hub_status(settings, args.state))
        _print(args, told, hub, terminal_columns() or WIDTH_OF_A_PIPE)
        return exit_codes.DONE
    if args.json or not is_terminal():
        return run_program(lambda stop: unless_stopped(stop, _printed(settings, args, hub)))
    return run_program(lambda stop: unless_stopped(stop, _drawn(settings, args.state, hub)))


def _print(args: argparse.Namespace, told: m.HubStatus, hub: str, columns: int) -> None:
    answer(as_plain(told), *(() if args.json else top(told, hub, columns)), as_json=args.json)


async def _hub(found: Settings, state: State) -> str:
    async with daemon_or_key(found, state) as (settings, _):
        return host_of(settings.needs_hub())


async def _printed(settings: Settings, args: argparse.Namespace, hub: str) -> int:
    async for told in statuses(settings, args.state, EVERY):
        if isinstance(told, LinkDown):
            say(f"wakestream: {t('top.away', why=told.reason)}", error=True)
        else:
            _print(args, told, hub, WIDTH_OF_A_PIPE)
            if not args.json:
                say("")
    return exit_codes.DONE


async def _drawn(settings: Settings, state: State, hub: str) -> int:
    """The whole screen; `q` leaves."""
    shown = _Screen(hub)
    # Its own stream for standard output has no encoding, from which the table knows the characters that it can use.
    screen = Live(get_renderable=shown.picture, console=shown.console, screen=True, redirect_stdout=False)
    with pressed_keys() as pressed, screen:
        async with tasks_of_block() as start:
            following = start(_follow(settings, state, shown))
            while not following.done():
                if "q" in pressed().lower():
                    return exit_codes.DONE
                await asyncio.sleep(KEYS_EVERY)
            return await following


async def _follow(found: Settings, state: State, shown: _Screen) -> int:
    async with contextlib.aclosing(statuses(found, state, EVERY)) as answers:
        async for told in answers:
            shown.take(told)
    return exit_codes.DONE


class _Screen:
    """The last answer, and whether the hub has been away since."""

    def __init__(self, hub: str) -> None:
        self.console = printing.console()
        self._hub = hub
        self._told: m.HubStatus | None = None
        self._away = ""

    def take(self, told: m.HubStatus | LinkDown) -> None:
        """Take over an answer, or that the connection was lost."""
        if isinstance(told, LinkDown):
            self._away = told.reason
        else:
            self._told, self._away = told, ""

    def picture(self) -> Group:
        """As many lines as the screen has."""
        foot = t("top.away", why=self._away) if self._away else t("top.leave")
        lines = [t("phase.connecting")] if self._told is None else top(self._told, self._hub, self.console.width)
        styles = {0: "bold", 2: "bold"}
        texts = [_line(text, styles.get(at, "")) for at, text in enumerate(lines[: max(1, self.console.height - 2)])]
        return Group(*texts, _line(foot, "yellow" if self._away else "dim"))


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="crop")


@contextmanager
def pressed_keys() -> Iterator[Callable[[], str]]:
    """Yields a function that returns the keys that were pressed since the last call; empty without a terminal.

    Ctrl-C stays a signal.
    """
    if not sys.stdin.isatty():
        yield str
        return
    if sys.platform == "win32":
        import msvcrt

        yield lambda: msvcrt.getwch() if msvcrt.kbhit() else ""
        return
    import select
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)

    def pressed() -> str:
        if not select.select([terminal], [], [], 0)[0]:
            return ""
        return os.read(terminal, 64).decode(errors="replace")

    try:
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


_RIGHT = ("util", "today", "price")
_SPARE = (("price", 20), ("for", 20), ("util", 20))
"""The columns that are left out where there is no room, in this order, while the jobs have fewer columns."""


def top(answer: m.HubStatus, hub: str, columns: int) -> list[str]:
    """All of it, as lines of at most so many columns; the first is a heading, and so is the first of each table."""
    at = datetime.datetime.fromtimestamp(answer.ts or 0).astimezone()
    on = sum(gpu.get("uptime_s", 0) > 0 for gpu in answer.gpus)
    gpus = t("top.gpus", count=len(answer.gpus) + (answer.more or 0), on=on)
    left, right = printable(f"wakestream top  {hub}"), f"{gpus}  {at:%H:%M:%S}"
    left = cut(left, columns - width(right) - GAP)
    return [
        left + " " * (columns - width(left) - width(right)) + right,
        "",
        *_gpus(answer, columns),
        "",
        *paragraphs([line for part in _PARTS for line in part(answer)], columns),
    ]


def _gpus(answer: m.HubStatus, columns: int) -> list[str]:
    if not answer.gpus:
        return [t("status.no_gpu")]
    rows = [_row(gpu, answer) for gpu in answer.gpus]
    names = [name for name in rows[0] if name in ("gpu", "state", "jobs") or any(row[name] for row in rows)]
    shown = [{name: t("cost.gpu" if name == "gpu" else f"top.{name}") for name in names}, *rows]
    return [*fitted(shown, "jobs", _SPARE, _RIGHT, columns), *more(answer)]


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


def _plans(answer: m.HubStatus) -> Iterator[str]:
    for gpu in answer.gpus:
        if planned := plan(gpu):
            yield t("plan.top", gpu=printable(gpu["gpu"]), plan=planned)


def _queue(answer: m.HubStatus) -> Iterator[str]:
    if not answer.queue:
        yield t("status.no_queue")
        return
    by = [t("top.of", jobs=waiting["jobs"], license=waiting["license"]) for waiting in answer.waiting or ()]
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


_PARTS: tuple[Callable[[m.HubStatus], Iterable[str]], ...] = (
    _plans, _queue, starts, depot, _connections, _costs, budgets,
)  # fmt: skip
_SPANS = ("today", "month")
