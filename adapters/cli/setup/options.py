"""The answers that set-up needs, as flags or asked for on a terminal."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.many_jobs import agrees
from wakestream.adapters.cli.setup.machine import asked, chosen, machine_settings
from wakestream.adapters.cli.setup.roles import SECRETS, TLS
from wakestream.adapters.client.pair import Invited
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import SettingsError, flag_of

MONITOR = (
    "power", "power_machine", "power_option", "power_program", "power_start", "power_stop", "power_inspect",
    "idle_after",
)  # fmt: skip


MONEY = ("price_per_hour", "budget_per_day")
"""For `init monitor`: the hub's arguments for its GPU."""

OF_ROLE = {
    "hub": ("listen", "public", "tls_cert", "tls_key"),
    "worker": ("gpu", "listen", "public_url", "engine", "tls", "tls_cert", "tls_key"),
    "monitor": ("gpu", *MONITOR, *MONEY),
}
"""The flags of each role."""


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
    flags.tls(parser)
    flags.add(parser, "--tls", "for a worker: serve TLS with a certificate that the hub signs", default=None)
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
        gpu = args.gpu or next(iter(is_for.gpus), "") or _gpu(is_for.watched)
        listen = args.listen or "0.0.0.0:8383"
        host, port = _listen(listen)
        tls: dict[str, Any] = {name: absolute(getattr(args, name)) for name in ("tls_cert", "tls_key")}
        if _signed(is_for, args, host):
            tls[TLS] = True
        public = args.public_url
        if public is None and host in ("0.0.0.0", "::"):  # noqa: S104 - compared
            public = asked(
                "--public-url", f"{'https' if any(tls.values()) else 'http'}://{addresses.at_port(is_for.seen, port)}"
            )
        return {"gpu": gpu, "listen": listen, "public_url": _url(public), "engine": args.engine, **tls}
    return {}


def _gpu(watched: Sequence[str]) -> str:
    """The name of a GPU that a monitor switches on, if there is one."""
    return (
        chosen("--gpu", [(name,) for name in watched]) if len(watched) > 1 else asked("--gpu", *watched or (flags.GPU,))
    )


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
            raise SettingsError(f"a {role} has no {flag_of(name)}; leave it out, or use a code for another role")


def _listen(text: str) -> tuple[str, int]:
    try:
        return addresses.listen_address(text)
    except ValueError as error:
        raise SettingsError(f"--listen {error}") from None


def _url(text: str | None) -> str | None:
    try:
        return text and addresses.worker_url(text)
    except ValueError as error:
        raise SettingsError(f"--public-url {error}") from None


def absolute(path: str | None) -> Path | None:
    """A path as the settings file needs it: there, a relative one is one beside that file."""
    return Path(path).expanduser().absolute() if path is not None else None
