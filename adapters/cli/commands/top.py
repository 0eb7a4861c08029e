"""`wakestream top`: the hub at a glance, kept up to date, for its operator."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.text import Text

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands.status import as_plain
from wakestream.adapters.cli.hub_answers import State, daemon_or_key, hub_status, statuses
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.live_jobs import is_terminal
from wakestream.adapters.cli.render.table import terminal_columns
from wakestream.adapters.cli.render.top_text import top
from wakestream.adapters.cli.service import begin, run_program, unless_stopped
from wakestream.adapters.config.addresses import host_of
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.runtime import printing
from wakestream.adapters.runtime.printing import answer, say
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.ports import LinkDown
from wakestream.streams.protocol import messages as m

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
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Show it until `q` or Ctrl-C; in a pipe, print it again and again."""
    found = begin(args, usual_level="CRITICAL")
    hub = asyncio.run(_hub(found, args.state))
    if args.once:
        told = asyncio.run(hub_status(found, args.state))
        _print(args, told, hub, terminal_columns() or WIDTH_OF_A_PIPE)
        return exit_codes.DONE
    if args.json or not is_terminal():
        return run_program(lambda stop: unless_stopped(stop, _printed(found, args, hub)))
    return run_program(lambda stop: unless_stopped(stop, _drawn(found, args.state, hub)))


def _print(args: argparse.Namespace, told: m.HubStatus, hub: str, columns: int) -> None:
    answer(as_plain(told), *(() if args.json else top(told, hub, columns)), as_json=args.json)


async def _hub(found: Settings, state: State) -> str:
    async with daemon_or_key(found, state) as (settings, _):
        return host_of(settings.needs_hub())


async def _printed(found: Settings, args: argparse.Namespace, hub: str) -> int:
    async for told in statuses(found, args.state, EVERY):
        if isinstance(told, LinkDown):
            say(f"wakestream: {t('top.away', why=told.reason)}", error=True)
        else:
            _print(args, told, hub, WIDTH_OF_A_PIPE)
            if not args.json:
                say("")
    return exit_codes.DONE


async def _drawn(found: Settings, state: State, hub: str) -> int:
    """The whole screen; `q` leaves."""
    shown = _Screen(hub)
    # Its own stream for standard output has no encoding, from which the table knows the characters that it can use.
    screen = Live(get_renderable=shown.picture, console=shown.console, screen=True, redirect_stdout=False)
    with pressed_keys() as pressed, screen:
        async with tasks_of_block() as start:
            following = start(_follow(found, state, shown))
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
