"""The answers that set-up needs, as flags or asked for on a terminal."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.setup.files import is_terminal
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.runtime.printing import say

MONITOR = (
    "power", "power_machine", "power_option", "power_program", "power_start", "power_stop", "power_inspect",
    "idle_after",
)  # fmt: skip
WORKER = ("listen", "public_url", "engine")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `init` and `join`."""
    flags.add(parser, "--gpu NAME", "the name of the GPU, for a worker or a monitor")
    flags.add(parser, "--listen HOST:PORT", "the address that a hub or worker listens on")
    flags.add(parser, "--public-url URL", "under which clients reach a worker, where that is not what it listens on")
    flags.add(parser, "--engine NAME", "the worker's engine (default ffmpeg)")
    power = parser.add_argument_group("the machine, for a monitor")
    flags.add(power, "--power NAME", "how the machine is switched: command, process or a provider")
    flags.add(power, "--machine ID", "the machine's id or name at its provider", dest="power_machine")
    power.add_argument(
        "--power-option", metavar="KEY=VALUE", action="append",
        help="an option of the power provider, such as region=cn-wlcb; may be given several times",
    )  # fmt: skip
    flags.add(power, "--program CMD", "the program that --power process starts and stops", dest="power_program")
    flags.add(power, "--start CMD", "starts the machine", dest="power_start")
    flags.add(power, "--stop CMD", "stops the machine", dest="power_stop")
    flags.add(power, "--inspect CMD", "prints the machine's state", dest="power_inspect")
    flags.add(power, "--idle-after TIME", "stop the machine after this idle time (default 30min)")
    flags.add(parser, "--service", "write a service of this account that starts the program, too")
    flags.add(parser, "--folder DIR", "the folder of the settings (default: the user's own)", type=Path)


def settings_of(role: str, args: argparse.Namespace, ask: Callable[[str, str], str] | None = None) -> dict[str, Any]:
    """The settings of a role from the flags; what is missing is asked for on a terminal.

    Args:
        role: The role.
        args: The arguments of the command.
        ask: Asks a person, with a default; by default on the terminal, if there is one.

    Raises:
        SettingsError: An answer is missing, and there is no terminal.
    """
    ask = ask or asked
    if role == "monitor":
        gpu = args.gpu or ask("--gpu", "gpu")
        power = args.power or ask("--power", "")
        given = {name: getattr(args, name) for name in MONITOR}
        return {"gpu": gpu, **given, "power": power}
    if role == "worker":
        gpu = args.gpu or ask("--gpu", socket.gethostname().partition(".")[0])
        return {
            "gpu": gpu,
            "listen": args.listen or "0.0.0.0:8383",
            "public_url": args.public_url,
            "engine": args.engine,
        }
    return {}


def asked(flag: str, usual: str) -> str:
    """The answer of a person on the terminal; without one, `usual`. Raises `SettingsError` if that is empty."""
    if not is_terminal():
        if usual:
            return usual
        raise SettingsError(f"{flag} is missing; give it, or run this on a terminal")
    shown = f" [{usual}]" if usual else ""
    say(f"{flag}{shown}:")
    answer = sys.stdin.readline().strip() or usual
    if not answer:
        raise SettingsError(f"{flag} is missing")
    return answer
