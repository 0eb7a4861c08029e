"""The answers that set-up needs, as flags or asked for on a terminal."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.i18n.catalog import known, t
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.cli.setup.roles import SECRETS, TLS
from wakestream.adapters.client.pair import Invited
from wakestream.adapters.config import addresses
from wakestream.adapters.config.setting_files import naming
from wakestream.adapters.config.settings import SettingsError, flag_of, load
from wakestream.adapters.power.config import (
    CannotList,
    Machine,
    PowerConfig,
    Provider,
    installed,
    make_power,
    power_config,
    returned_reading,
)
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.adapters.runtime.printing import agrees, say
from wakestream.operators.model.errors import WakestreamError

R = TypeVar("R")

COMMANDS = {"process": ("program",), "command": ("start", "stop", "inspect")}
"""The command lines that these providers need."""

OPTIONS = {
    "ec2": ("region?",), "libcloud": ("driver",), "redfish": ("base_url", "certificate?"), "docker": ("base_url?",),
    "wol": ("worker", "ssh", "ssh_key?", "known_hosts?"),
}  # fmt: skip
"""The options that these providers need, and with a question mark those that a person may leave out."""

FILES = ("certificate", "ssh_key", "known_hosts")
"""The options that are files."""

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
    if sys.stdin.isatty() and known(f"power.guide.{args.power}"):
        say(t(f"power.guide.{args.power}"))
        _ask_options(args)
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
        power = make_power(args.power, config)
        reading = returned_reading(_of(power, lambda power: power.inspect()))
        if reading.state in AMISS:
            raise SettingsError(f"the provider reports the machine as {reading}; correct that, then run this again")
        say(t("doctor.power_says", reading=reading))
    say(t("power.untested", what=t(f"power.untested.{'process' if args.power == 'process' else 'usual'}")))
    return {"power": args.power, "power_machine": args.power_machine}, typed


def _ask_options(args: argparse.Namespace) -> None:
    given = dict(load(vars(args)).power_option)
    for option in OPTIONS.get(args.power, ()):
        name, flag = option.rstrip("?"), f"--power-option {option.rstrip('?')}"
        if name not in given and (answer := asked(flag, "") if name == option else optional(flag)):
            given[name] = str(absolute(answer)) if name in FILES else answer
    args.power_option = [f"{name}={text}" for name, text in given.items()] or None


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
        machines = _of(make_power(args.power, replace(config, machine=None)), lambda power: power.machines())
        args.power_machine = chosen("--machine", [machine_row(machine) for machine in machines])
    except CannotList:
        args.power_machine = asked("--machine", "")
    return replace(config, machine=args.power_machine)


def machine_row(machine: Machine) -> tuple[str, ...]:
    """A machine in a table: id, name, state, GPU and price."""
    price = "" if machine.price is None else f"{machine.price:g} {machine.currency}".rstrip()
    return machine.id, machine.name, machine.state, machine.gpu, price


def _of(power: Provider, call: Callable[[Provider], Awaitable[R]]) -> R:
    """Ask a provider, in a thread with a loop of its own: `join` asks while its own loop runs."""

    async def ask() -> R:
        try:
            return await call(power)
        except CannotList:
            raise
        except WakestreamError as error:
            raise SettingsError(f"the machine was not found: {error}") from None
        finally:
            await power.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask()).result()


MONITOR = (
    "power", "power_machine", "power_option", "power_program", "power_start", "power_stop", "power_inspect",
    "idle_after", "label",
)  # fmt: skip


DEPOT_PORT = 8385

MONEY = ("price_per_hour", "budget_per_day")
"""For `init monitor`: the hub's arguments for its GPU."""

DEPOT = ("depot", "depot_size")

OF_ROLE = {
    "hub": ("listen", "public", "tls_cert", "tls_key", *DEPOT),
    "depot": ("listen", "public_url", "tls", "tls_cert", "tls_key", *DEPOT),
    "worker": ("gpu", "label", "slots", "listen", "public_url", "engine", "tls", "tls_cert", "tls_key"),
    "monitor": ("gpu", *MONITOR, *MONEY),
}
"""The flags of each role."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `init` and `join`."""
    flags.add(parser, "--gpu NAME", "the name of the GPU, for a worker or a monitor")
    flags.labels(parser)
    flags.slots(parser)
    flags.add(parser, "--listen HOST:PORT", "the address that a hub, a worker or a depot listens on")
    flags.add(parser, "--public-url URL", "the address at which others reach a worker or a depot, if it differs")
    flags.add(parser, "--engine NAME", "the worker's engine (default ffmpeg)")
    power = parser.add_argument_group("the machine, for a monitor")
    flags.machine(power)
    flags.add(power, "--idle-after TIME", "stop the machine after this idle time (default 30min)")
    flags.tls(parser)
    text = "for a worker or a depot: serve TLS with a certificate that the hub signs"
    flags.add(parser, "--tls", text, default=None)
    depot = parser.add_argument_group("a depot, also beside a hub")
    flags.add(depot, "--depot DIR", "the folder of its files")
    flags.add(depot, "--depot-size SIZE", "the most bytes of its files, such as 50GB (the default)", type=flags.size)
    flags.add(parser, "--service", "write a service of this account that starts the program, too")
    flags.add(parser, "--folder DIR", "the folder of the settings (default: the user's own)", type=Path)


def settings_of(is_for: Invited, args: argparse.Namespace) -> dict[str, Any]:
    """The settings of a role from the flags; what is missing is asked for on a terminal.

    Args:
        is_for: The role, and what the hub says about it.
        args: The flags.

    Raises:
        SettingsError: An answer is missing, and there is no terminal; or a flag is one of another role or GPU.
    """
    role = is_for.role
    check_flags(role, args)
    if args.gpu and is_for.gpus and args.gpu not in is_for.gpus:
        names = ", ".join(is_for.gpus)
        other = f"make another one at the hub, with `wakestream invite {role} --gpu {args.gpu}`"
        raise SettingsError(f"this code is for the GPU {names}, not {args.gpu}; leave --gpu out, or {other}")
    if role == "monitor":
        gpu = args.gpu or next(iter(is_for.gpus), "") or asked("--gpu", flags.GPU)
        machine, typed = machine_settings(args)
        return {"gpu": gpu, **{name: getattr(args, name) for name in MONITOR}, **machine, SECRETS: typed}
    if role == "worker":
        gpu = args.gpu or next(iter(is_for.gpus), "")
        if not gpu and len(is_for.watched) > 1:  # GPUs that a monitor switches on
            gpu = chosen("--gpu", [(name,) for name in is_for.watched])
        gpu = gpu or asked("--gpu", *is_for.watched or (flags.GPU,))
        load({"slots": args.slots, "label": args.label})  # checks them
        own = {"label": args.label, "slots": args.slots and int(args.slots)}
        return {"gpu": gpu, **_server(is_for, args, "0.0.0.0:8383"), "engine": args.engine, **own}
    return _server(is_for, args, f"0.0.0.0:{DEPOT_PORT}") if role == "depot" else {}


def depot_arguments(args: argparse.Namespace) -> list[str]:
    """The arguments of a depot."""
    state = ("--state", str(absolute(args.depot))) if args.depot is not None else ()
    return ["run", *state, *(("--size", str(args.depot_size)) if args.depot_size is not None else ())]


def _server(is_for: Invited, args: argparse.Namespace, usual: str) -> dict[str, Any]:
    """The addresses and the certificate of a worker or a depot."""
    listen = args.listen or usual
    with naming("--listen"):
        host, port = addresses.listen_address(listen)
    tls: dict[str, Any] = {name: absolute(getattr(args, name)) for name in ("tls_cert", "tls_key")}
    if _signed(is_for, args, host):
        tls[TLS] = True
    public = args.public_url
    if public is None and host in ("0.0.0.0", "::"):  # noqa: S104 - compared
        public = asked(
            "--public-url", f"{'https' if any(tls.values()) else 'http'}://{addresses.at_port(is_for.seen, port)}"
        )
    with naming("--public-url"):
        return {"listen": listen, "public_url": public and addresses.worker_url(public), **tls}


def _signed(is_for: Invited, args: argparse.Namespace, host: str) -> bool:
    """Whether the hub is to sign a certificate for a worker: by a flag, or as the answer to a question."""
    if args.tls and (args.tls_cert or args.tls_key):
        raise SettingsError("--tls has the hub sign a certificate; leave --tls-cert and --tls-key out, or --tls")
    if args.tls and not is_for.signs:
        raise SettingsError("--tls: this hub has no certificate of its own to sign with; give --tls-cert and --tls-key")
    if args.tls is not None or args.tls_cert or not is_for.signs or addresses.is_loopback(host):
        return bool(args.tls)
    return agrees(t("join.tls.ask"))


def check_flags(role: str, args: argparse.Namespace) -> None:
    """Raise `SettingsError` for a flag that this role does not have."""
    own = OF_ROLE.get(role, ())
    for name in dict.fromkeys(name for names in OF_ROLE.values() for name in names):
        if name not in own and getattr(args, name, None) is not None:
            raise SettingsError(f"a {role} has no {flag_of(name)}; leave it out, or set up another role")
    if role == "hub" and args.depot is None and args.depot_size is not None:
        raise SettingsError("--depot-size is for a depot beside the hub; give --depot DIR, too")
    if "://" in (getattr(args, "depot", None) or ""):
        raise SettingsError(f"--depot {args.depot[:80]} is no folder; `wakestream hub --depot` uses a bucket")


def absolute(path: str | None) -> Path | None:
    """A path as the settings file needs it: there, a relative one is one beside that file."""
    return Path(path).expanduser().absolute() if path is not None else None
