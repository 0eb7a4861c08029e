"""The machine of a monitor: asked for on a terminal, and looked at before anything is written."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.config.settings import SettingsError, load
from wakestream.adapters.power.config import (
    CannotList,
    Machine,
    PowerConfig,
    Provider,
    installed,
    make_power,
    power_config,
)
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.adapters.runtime.printing import say
from wakestream.operators.model.errors import WakestreamError

R = TypeVar("R")

COMMANDS = {"process": ("program",), "command": ("start", "stop", "inspect")}
"""The command lines that these providers need."""

AMISS = ("unknown", "failed", "terminated")
"""States of a machine that cannot be used as it is."""


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


def optional(flag: str) -> str:
    """As `asked`, for an answer that may be empty."""
    if not sys.stdin.isatty():
        return ""
    say(t("setup.optional", flag=flag))
    return sys.stdin.readline().strip()


def chosen(flag: str, rows: Sequence[tuple[str, ...]]) -> str:
    """The first cell of the row that a person chooses by its number; or another answer, as it is."""
    if not sys.stdin.isatty():
        raise SettingsError(f"{flag} is missing; give it, or run this on a terminal")
    say(*table([(f"{number})", *row) for number, row in enumerate(rows, 1)]))
    answer = asked(flag, "")
    if not answer.isdecimal():
        return answer
    if not 0 < int(answer) <= len(rows):
        raise SettingsError(f"{answer} is not one of 1 to {len(rows)}")
    return rows[int(answer) - 1][0]


def machine_settings(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of the machine, checked by a look at it, and the credentials that were typed.

    Args:
        args: The flags; what is missing is asked for on a terminal, and set there.

    Raises:
        SettingsError: An answer is missing or wrong, or the machine cannot be looked at.
    """
    args.power = args.power or chosen("--power", [(name,) for name in installed()])
    for name in COMMANDS.get(args.power, ()):
        field = f"power_{name}"
        setattr(args, field, getattr(args, field) or asked(f"--{name}", ""))
    typed: dict[str, str] = {}
    config = _config(args, typed)
    for name, command in config.commands.items():
        if name in COMMANDS.get(args.power, ()) and shutil.which(command[0]) is None:
            raise SettingsError(f"--{name}: {command[0]!r} is not a program here; give its full path")
    if config.machine == "":
        config = _with_machine(args, config)
    if args.power != "process":
        reading = asyncio.run(_of(make_power(args.power, config), lambda power: power.inspect()))
        if reading.state in AMISS:
            raise SettingsError(f"the provider reports the machine as {reading}; correct that, then run this again")
        say(t("doctor.power_says", reading=reading))
    return {"power": args.power, "power_machine": args.power_machine}, typed


def _config(args: argparse.Namespace, typed: dict[str, str]) -> PowerConfig:
    """The flags as the provider gets them. A credential that is nowhere is asked for, without an echo."""
    given = power_config(load(vars(args)))

    def secret(name: str) -> str:
        try:
            return typed.get(name) or given.secret(name)
        except SettingsError:
            if not sys.stdin.isatty():
                raise
            value = getpass.getpass(f"{name}: ").strip()
            if not value:
                raise
            hide(value)
            typed[name] = value
            return value

    return replace(given, secret=secret)


def _with_machine(args: argparse.Namespace, config: PowerConfig) -> PowerConfig:
    """The same with a machine of the account, where the provider needs one."""
    try:
        make_power(args.power, config)
    except SettingsError as error:
        if "--machine" not in str(error) or not sys.stdin.isatty():
            raise
    else:
        return config
    try:
        found = asyncio.run(_of(make_power(args.power, replace(config, machine=None)), lambda power: power.machines()))
        args.power_machine = chosen("--machine", [_row(machine) for machine in found])
    except CannotList:
        args.power_machine = asked("--machine", "")
    return replace(config, machine=args.power_machine)


def _row(machine: Machine) -> tuple[str, ...]:
    price = "" if machine.price is None else f"{machine.price:g} {machine.currency}".rstrip()
    return machine.id, machine.name, machine.state, machine.gpu, price


async def _of(power: Provider, call: Callable[[Provider], Awaitable[R]]) -> R:
    try:
        return await call(power)
    except CannotList:
        raise
    except WakestreamError as error:
        raise SettingsError(f"the machine was not found: {error}") from None
    finally:
        await power.close()
