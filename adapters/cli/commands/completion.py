"""`wakestream completion SHELL`: a script that lets the shell complete commands, flags and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import shtab

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.cli.parser import actions_of
from wakestream.adapters.runtime.printing import say

EXAMPLES = (
    "completion bash > ~/.local/share/bash-completion/completions/wakestream",
    "completion zsh > ~/.zfunc/_wakestream",
    "completion fish > ~/.config/fish/completions/wakestream.fish",
    "completion powershell >> $PROFILE",
)
SHELLS = ("bash", "zsh", "fish", "powershell")

_FOLDERS, _FILES = ("DIR",), ("FILE", "LOG", "OUT")
"""What the names of values say that they are."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="your shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    parser = parser_of()
    commands = actions_of(parser)
    for action in commands["help"]._actions:
        if action.metavar == "COMMAND":
            action.choices = tuple(commands)
    _name_files(parser, shtab.FILE, shtab.DIRECTORY)
    say(*shtab.complete(parser, shell=args.shell).split("\n"))
    return exit_codes.DONE


def _name_files(parser: argparse.ArgumentParser, file: Any, folder: Any) -> None:
    """Tell the library which values are files or folders."""
    for command in actions_of(parser).values():
        _name_files(command, file, folder)
    for action in parser._actions:  # argparse has no other way to look at a parser
        if action.metavar in _FOLDERS:
            vars(action)["complete"] = folder
        elif action.type is Path or action.metavar in _FILES:
            vars(action)["complete"] = file
