"""What is offered on a terminal where nothing is set up yet: join a hub, try the demo, or read how to set it up."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.main import load, parser_of
from wakestream.adapters.cli.render.table import paragraphs, terminal_columns
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon import discovery
from wakestream.adapters.net.pairing import PairingError
from wakestream.adapters.runtime.printing import say

CLIENT = "client"

ON_SERVER = ("wakestream init monitor --gpu studio --power NAME --machine ID", "wakestream up")
"""Further commands on the hub's machine."""


def is_first_start(settings: Settings, state: Path | str | None) -> bool:
    """Whether a person is at this terminal, no hub is set, and no daemon runs that knows one."""
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    return asks and settings.hub_url is None and discovery.read(discovery.folder(state)) is None


def offer() -> int | None:
    """Ask what to do first, and do it; the exit code, or None if a hub was joined, so that the command can go on."""
    say(*_wrapped(t("first.title"), "", t("first.join"), t("first.demo"), t("first.read"), ""))
    say(t("first.ask"))
    chosen = sys.stdin.readline().strip().lower()
    # A pasted line is a code already, also one whose address begins with a digit.
    number = chosen[:1] if len(chosen) < 3 else ""
    if number == "2":
        return load("demo").run(parser_of(("demo",)).parse_args(["demo"]))
    if number == "3":
        say(*how_to())
        return exit_codes.DONE
    if number == "1":
        say(t("first.code"))
        chosen = sys.stdin.readline().strip()
    if not chosen:
        return exit_codes.USAGE
    _joined(chosen)
    return None


def _joined(line: str) -> None:
    from wakestream.adapters.cli.setup.roles import join

    address, code = hub_and_code(line)
    joined = asyncio.run(join(address, code, lambda _: {}, only=CLIENT))
    say(t(f"join.done.{CLIENT}", hub=joined.paired.hub_url))
    say(*(t(f"setup.{what}", path=path) for path, what in joined.done.files))


def hub_and_code(line: str) -> tuple[str, str]:
    """Read `HOST CODE`, also as a whole command `wakestream join HOST CODE`.

    Raises:
        PairingError: The line is something else.

    Example:
        >>> hub_and_code("wakestream join hub.example:8765 4MXD-81WA")
        ('hub.example:8765', '4MXD-81WA')
    """
    words = line.split()
    if words[:2] == ["wakestream", "join"]:
        words = words[2:]
    elif words[:1] == ["join"]:
        words = words[1:]
    if len(words) == 3 and len(words[1]) == len(words[2]) == 4:  # a code with a blank instead of its dash
        words = [words[0], f"{words[1]}-{words[2]}"]
    if len(words) != 2:
        raise PairingError("paste the hub's address and the code, such as hub.example:8765 4MXD-81WA")
    return words[0], words[1]


def how_to() -> list[str]:
    """How wakestream is set up, in a few lines."""
    server = [f"{' ' * 16}{command}" for command in ON_SERVER]
    return _wrapped(
        t("first.how"), t("first.how.server"), *server, t("first.how.gpu"), t("first.how.pc"), t("first.how.one"),
        t("first.how.more"),
    )  # fmt: skip


def _wrapped(*lines: str) -> list[str]:
    return paragraphs(lines, terminal_columns())
