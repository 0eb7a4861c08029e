"""`wakestream help COMMAND`: as `wakestream COMMAND --help`."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.main import main

EXAMPLES = ("help submit", "help")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("topic", metavar="COMMAND", nargs="*", help="a command (default: list all)")


def run(args: argparse.Namespace) -> int:
    """Show it."""
    try:
        lang = [f"--lang={args.lang}"] if "lang" in args else []  # it stands for the other command as well
        return main([*lang, *args.topic, "--help"])
    except SystemExit as end:
        return exit_codes.DONE if end.code is None else int(end.code)
