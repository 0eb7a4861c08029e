"""What all commands' parsers have in common: their help's layout, the flags that each takes, and how they complain."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from wakestream.adapters.cli import exit_codes

WIDEST = 110
"""Columns of a help text on a wide terminal."""


class Command(Protocol):
    """What a command's module holds; `EXAMPLES` and `EXITS` where they have more to say than the general."""

    HELP: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        ...


class Parser(argparse.ArgumentParser):
    """Complains in JSON where JSON was asked for; no abbreviated flags, no reflowed examples."""

    in_json = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _Layout, **options})

    def error(self, message: str) -> NoReturn:
        """As argparse has it: two lines on standard error, exit code 2."""
        if not Parser.in_json:
            super().error(message)
        self.exit(exit_codes.USAGE, complaint(message, "usage") + "\n")


def complaint(why: str, code: str, line: str = "{}") -> str:
    """An error as whoever asked for `--json` reads it; with `line`, a line of a JSON log as well."""
    import json

    return json.dumps(json.loads(line) | {"error": why, "code": code}, ensure_ascii=False)


def unusable(why: str, code: str) -> int:
    """Say on standard error why what was given cannot be used; returns the exit code for that."""
    print(complaint(why, code) if Parser.in_json else f"wakestream: {why}", file=sys.stderr)  # noqa: T201
    return exit_codes.USAGE


class _Layout(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str, **options: Any) -> None:
        width = min(shutil.get_terminal_size().columns - 2, WIDEST)
        super().__init__(prog, **{"max_help_position": 30, "width": max(width, 30), **options})


def declare(parser: argparse.ArgumentParser, command: Command) -> None:
    """The command's arguments, those of every command, and the end of its help."""
    command.arguments(parser)
    parser.usage = _usage(parser)
    everywhere(parser)
    parser.epilog = "\n\n".join(
        filter(None, (parser.epilog, examples(command), getattr(command, "EXITS", exit_codes.HELP)))
    )


def _usage(parser: argparse.ArgumentParser) -> str:
    """What must be given, in one line: a command has two dozen flags that need not."""
    words = ["%(prog)s", "[options]"]
    for action in parser._actions:  # argparse has no other way to look at a parser
        name = action.metavar or f"{{{','.join(map(str, action.choices or ()))}}}"
        if action.option_strings and action.required:
            words.append(f"{action.option_strings[0]} {name}")
        elif not action.option_strings:
            words.append({"?": f"[{name}]", "+": f"{name}...", "*": f"[{name}...]"}.get(str(action.nargs), str(name)))
    return " ".join(words)


def examples(command: Command) -> str:
    """The command's examples, one a line."""
    lines: Sequence[str] = getattr(command, "EXAMPLES", ())
    return "\n".join(["examples:", *(f"  wakestream {line}" for line in lines)]) if lines else ""


def everywhere(parser: argparse.ArgumentParser) -> None:
    """What may stand before the command and after it; without SUPPRESS the second place would undo the first."""
    group = parser.add_argument_group("everywhere")

    def flag(*names: str, **options: Any) -> None:
        group.add_argument(*names, default=argparse.SUPPRESS, **options)

    flag("-q", "--quiet", action="store_true", help="show only results and errors")
    flag("-v", "--verbose", action="store_true", help="log everything (--log-level DEBUG)")
    flag("--lang", choices=("en", "zh"), help="the language (WAKESTREAM_LANG; default: the system's)")
    flag("--log-level", metavar="LEVEL", help="DEBUG, INFO (default), WARNING or ERROR (WAKESTREAM_LOG_LEVEL)")
    flag(
        "--log-json", dest="log_format", action="store_const", const="json",
        help="log one JSON object per line (WAKESTREAM_LOG_FORMAT=json)",
    )  # fmt: skip


def settle(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What `-q`, `-v` and `--lang` mean for the others. What programs read (`--json`) is English."""
    quiet, verbose = (getattr(args, name, False) for name in ("quiet", "verbose"))
    if quiet and verbose:
        parser.error("-q and -v contradict each other")
    if (quiet or verbose) and "log_level" not in args:
        args.log_level = "DEBUG" if verbose else "ERROR"
    if getattr(args, "json", False):
        args.lang = "en"
    if "lang" in args or "WAKESTREAM_LANG" in os.environ:
        from wakestream.adapters.words import choose

        choose(getattr(args, "lang", None))
