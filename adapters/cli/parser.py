"""What all commands' parsers have in common: their help's layout, the flags that each takes, and how they complain."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn, Protocol

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n.catalog import LANGUAGES, choose, chosen, t, translated
from wakestream.adapters.cli.render.table import hanging, wrapped
from wakestream.adapters.runtime.known_secrets import redacted, redacted_text
from wakestream.adapters.runtime.printing import json_text, say
from wakestream.streams.protocol.printable import printable

WIDEST = 110
"""Columns of a help text on a wide terminal."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

SYNONYMS = dict.fromkeys(("--background", "--bg", "--no-wait", "--async"), "--detach")
"""Flags of other tools, and ours for the same."""

QUIET = "ERROR"
"""The log level that `-q` means."""


class Command(Protocol):
    """A command's module. It may also hold `EXAMPLES`, and `EXITS` where its exit codes differ from the usual."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


class Parser(argparse.ArgumentParser):
    """Complains in JSON where JSON was asked for; no abbreviated flags, no reflowed examples."""

    in_json = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _Layout, **options})

    def error(self, message: str) -> NoReturn:
        """As argparse has it: the usage and a line on standard error, exit code 2. A missing action has its choices."""
        message = redacted_text(message)
        actions = actions_of(self)
        if actions and message.endswith(": ACTION"):
            message += f"; choose from {', '.join(actions)}"
        if Parser.in_json:
            self.exit(exit_codes.USAGE, complaint(message, "usage") + "\n")
        self.print_usage(sys.stderr)
        self.exit(exit_codes.USAGE, f"{self.prog}: {t('usage.wrong', why=translated(message) or message)}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message, layout=True), file)

    def format_usage(self) -> str:
        """In the language that is spoken."""
        self._translate()
        return super().format_usage()

    def format_help(self) -> str:
        """In the language that is spoken."""
        self._translate()
        return super().format_help()

    def _translate(self) -> None:
        if chosen() == "zh":
            from wakestream.adapters.cli.i18n.catalog import translate

            translate(self)


def not_understood(parser: argparse.ArgumentParser, args: argparse.Namespace, left: Sequence[str]) -> NoReturn:
    """Complain of what no parser took, as the innermost command that was named; with the flag that may be meant."""
    import difflib

    command = _innermost(parser, args)
    known = command._option_string_actions
    strange = next((word for word in left if word not in known), left[0])
    flag = strange.partition("=")[0]
    close = [SYNONYMS[flag]] if SYNONYMS.get(flag) in known else difflib.get_close_matches(flag, known, 1, 0.6)
    hint = f"; {flag} stands behind the command" if flag in known else f"; did you mean {close[0]}?" if close else ""
    command.error(f"unrecognized arguments: {' '.join(left)}{hint}")


def _innermost(parser: argparse.ArgumentParser, args: argparse.Namespace) -> argparse.ArgumentParser:
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    named = commands[0].choices.get(getattr(args, commands[0].dest)) if commands else None
    return parser if named is None else _innermost(named, args)


def complaint(why: str, code: str, line: str = "{}") -> str:
    """An error as a JSON object; with `line`, merged into that line of a JSON log."""
    import json

    return json_text(redacted(json.loads(line) | {"error": why, "code": code}))


def unusable(why: str, code: str) -> int:
    """Say on standard error why what was given cannot be used; returns the exit code for that."""
    from wakestream.adapters.cli.render.job_text import reason

    said = complaint(why, code) if Parser.in_json else redacted_text(f"wakestream: {reason(code, why)}")
    say(said, error=True)
    return exit_codes.USAGE


class _Layout(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str, **options: Any) -> None:
        width = min(shutil.get_terminal_size().columns - 2, WIDEST)
        super().__init__(prog, **{"max_help_position": 30, "width": max(width, 30), **options})

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, t("usage") if prefix is None else prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(part for line in text.splitlines() for part in _fitted(line, self._width))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return super()._split_lines(text, width) if text.isascii() else wrapped(text, width)


def _fitted(line: str, columns: int) -> Sequence[str]:
    """A line below the arguments, in lines of so many columns; a command line goes on after a backslash."""
    if not line.startswith("  wakestream "):
        head = line[: len(line) - len(re.sub(r"^\s*(?:\S+\s{2,})?", "", line))]
        return hanging(head, line[len(head) :], columns)
    lines = [" "]
    for word in re.findall(r'(?:"[^"]*"|\S)+', line):
        lines += [] if len(f"{lines[-1]} {word} \\") <= columns else ["     "]
        lines[-1] += f" {word}"
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def declare(parser: argparse.ArgumentParser, command: Command) -> None:
    """The command's arguments, those of every command, and the end of its help."""
    command.arguments(parser)
    for each in (parser, *actions_of(parser).values()):
        _finish(each)
    parser.epilog = "\n\n".join(
        filter(None, (parser.epilog, examples(command), getattr(command, "EXITS", exit_codes.HELP)))
    )


def actions_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of the commands, or of the actions of a command such as `license`, by name."""
    return next((action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)), {})


def _finish(parser: argparse.ArgumentParser) -> None:
    """The usage line, and the flags of every command."""
    # What must be given, in one line: a command has two dozen flags that need not.
    words = ["%(prog)s", "[options]"]
    for action in parser._actions:  # argparse has no other way to look at a parser
        name = action.metavar or f"{{{','.join(map(str, action.choices or ()))}}}"
        if action.option_strings and action.required:
            words.append(f"{action.option_strings[0]} {name}")
        elif not action.option_strings:
            words.append({"?": f"[{name}]", "+": f"{name}...", "*": f"[{name}...]"}.get(str(action.nargs), str(name)))
    parser.usage = " ".join(words)
    everywhere(parser)


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
    text = "DEBUG, INFO (default), WARNING or ERROR (WAKESTREAM_LOG_LEVEL)"
    flag("--log-level", metavar="LEVEL", type=str.upper, choices=LEVELS, help=text)
    text = "log one JSON object per line (WAKESTREAM_LOG_FORMAT=json)"
    flag("--log-json", dest="log_format", action="store_const", const="json", help=text)


def settle(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What `-q` and `-v` mean for the others."""
    quiet, verbose = (getattr(args, name, False) for name in ("quiet", "verbose"))
    if quiet and verbose:
        parser.error("-q and -v contradict each other")
    if (quiet or verbose) and "log_level" not in args:
        args.log_level = "DEBUG" if verbose else QUIET


def speak(arguments: Sequence[str]) -> None:
    """Choose the language that `--lang` names, wherever it stands: help and complaints come before it is understood.

    What programs read (`--json`) is English.
    """
    pairs = pairwise((*arguments, ""))
    named = [after if flag == "--lang" else flag[7:] for flag, after in pairs if flag.partition("=")[0] == "--lang"]
    choose("en" if "--json" in arguments else named[-1] if named and named[-1] in LANGUAGES else None)
