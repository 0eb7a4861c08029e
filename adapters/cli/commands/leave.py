"""`wakestream leave`: removes what `init` and `join` wrote on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.setup.files import ROLES, folder_of, recorded, remove
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.runtime.printing import say

EXAMPLES = ("leave", "leave worker")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The role, if not all."""
    roles = ", ".join(ROLES)
    parser.add_argument("role", metavar="ROLE", nargs="?", choices=ROLES, help=f"{roles} (default: all that are here)")
    flags.add(parser, "--folder DIR", "the folder of the settings (default: the user's own)", type=Path)


def run(args: argparse.Namespace) -> int:
    """Remove the files. Jobs, results and licenses stay."""
    roles = 0
    for role in (args.role,) if args.role else ROLES:
        folder = folder_of(role, args.folder)
        setup = recorded(folder)
        if setup is None:
            continue
        roles += 1
        for path, what in remove(folder, setup):
            say(t(f"setup.{what}", path=path))
        if setup.license:
            say(t("leave.license", license=setup.license))
    if not roles:
        raise SettingsError("nothing was set up here; `wakestream init` and `wakestream join` set up a machine")
    return exit_codes.DONE
