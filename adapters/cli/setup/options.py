"""The answers that set-up needs, as flags or asked for on a terminal."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import flags
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.runtime.printing import say

MONITOR = (
    "power", "power_machine", "power_option", "power_program", "power_start", "power_stop", "power_inspect",
    "idle_after",
)  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `init` and `join`."""
    flags.add(parser, "--gpu NAME", "the name of the GPU, for a worker or a monitor")
    flags.add(parser, "--listen HOST:PORT", "the address that a hub or worker listens on")
    flags.add(parser, "--public-url URL", "under which clients reach a worker, where that is not what it listens on")
    flags.add(parser, "--engine NAME", "the worker's engine (default ffmpeg)")
    power = parser.add_argument_group("the machine, for a monitor")
    flags.provider(power)
    flags.add(power, "--program CMD", "the program that --power process starts and stops", dest="power_program")
    flags.add(power, "--start CMD", "starts the machine", dest="power_start")
    flags.add(power, "--stop CMD", "stops the machine", dest="power_stop")
    flags.add(power, "--inspect CMD", "prints the machine's state", dest="power_inspect")
    flags.add(power, "--idle-after TIME", "stop the machine after this idle time (default 30min)")
    flags.add(parser, "--service", "write a service of this account that starts the program, too")
    flags.add(parser, "--folder DIR", "the folder of the settings (default: the user's own)", type=Path)


def settings_of(role: str, args: argparse.Namespace) -> dict[str, Any]:
    """The settings of a role from the flags; what is missing is asked for on a terminal.

    Raises:
        SettingsError: An answer is missing, and there is no terminal.
    """
    if role == "monitor":
        gpu = args.gpu or asked("--gpu", "gpu")
        power = args.power or asked("--power", "")
        return {"gpu": gpu, **{name: getattr(args, name) for name in MONITOR}, "power": power}
    if role == "worker":
        gpu = args.gpu or asked("--gpu", socket.gethostname().partition(".")[0])
        listen = args.listen or "0.0.0.0:8383"
        return {"gpu": gpu, "listen": listen, "public_url": args.public_url, "engine": args.engine}
    return {}


def asked(flag: str, usual: str) -> str:
    """The answer of a person on the terminal; without one, `usual`. Raises `SettingsError` if that is empty."""
    if not sys.stdin.isatty():
        if usual:
            return usual
        raise SettingsError(f"{flag} is missing; give it, or run this on a terminal")
    shown = f" [{usual}]" if usual else ""
    say(f"{flag}{shown}:")
    answer = sys.stdin.readline().strip() or usual
    if not answer:
        raise SettingsError(f"{flag} is missing")
    return answer
