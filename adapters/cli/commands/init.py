"""`wakestream init ROLE`: sets a hub up, or another role on the hub's own machine."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands import hub, invite
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import begin
from wakestream.adapters.cli.setup import options
from wakestream.adapters.cli.setup.files import ROLES, Setup, folder_of, recorded, write
from wakestream.adapters.cli.setup.options import asked, optional
from wakestream.adapters.cli.setup.roles import KEY, Done, configure, lines_of
from wakestream.adapters.cli.setup.service import service
from wakestream.adapters.client.pair import Invited
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import SettingsError, load
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.net.certificates import make_certificate, names_of
from wakestream.adapters.runtime.printing import say

EXAMPLES = (
    "init hub --public https://hub.example:8765",
    'init monitor --gpu studio --power command --start "cloud on 1" --stop "cloud off 1" --inspect "cloud state 1"',
    "init hub --public https://hub.example:8765 --depot /srv/depot --depot-size 50GB",
    "init client",
)
INVITED = ("worker", "client")
"""The roles that get a code at once when a hub is set up."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The role and its answers."""
    parser.add_argument("role", metavar="ROLE", choices=ROLES, help=", ".join(ROLES))
    options.arguments(parser)
    money = parser.add_argument_group("what the GPU of a monitor may cost")
    flags.add(money, "--price-per-hour PRICE", "what an hour of this GPU costs, where the provider does not say it")
    flags.add(money, "--budget-per-day AMOUNT", "do not wake this GPU when its day has cost this much")
    group = parser.add_argument_group("a hub")
    flags.add(group, "--public URL", "the address under which others reach the hub; more of a cluster after commas")
    hub.state(parser)


def run(args: argparse.Namespace) -> int:
    """Write the settings, and for a hub print a code for each role."""
    begin(args)
    if args.role == "hub":
        options.check_flags("hub", args)
        done = {"hub": _hub(args)}
        if args.depot is not None:
            done["depot"] = _depot(args)
        say(*lines_of(done, args.folder), "", *_codes(args))
    else:
        say(*lines_of({args.role: _beside_the_hub(args)}, args.folder))
    return exit_codes.DONE


def _hub(args: argparse.Namespace) -> Done:
    setup = recorded(folder_of("hub", args.folder)) or Setup("hub")
    given = args.public or setup.public or asked("--public", "")
    public = hub.public_url(given)
    secure = public.startswith("wss:")
    host, port = addresses.host_of(public), addresses.port_of(public) or (443 if secure else 80)
    listen = args.listen or f"0.0.0.0:{port}"
    state = hub.folder(args.state).absolute()
    prepare_state(state)
    settings: dict[str, Any] = {
        "listen": listen,
        "tls_cert": options.absolute(args.tls_cert),
        "tls_key": options.absolute(args.tls_key),
        "journal": hub.journal_here(args, args.folder),
    }
    # A hub with a public https address that listens on loopback only is behind a proxy, which has the certificate.
    behind_proxy = addresses.is_loopback(addresses.listen_address(listen)[0]) and not addresses.is_loopback(host)
    if secure and args.tls_cert is None and not behind_proxy:
        cert, key = state / "hub.pem", state / "hub.key"
        hosts = [addresses.host_of(url) for url in public.split(",")]
        if cert.exists() and key.exists():
            if missing := {*hosts}.difference(names := names_of(cert)):
                raise SettingsError(
                    f"{cert} is for {', '.join(names) or 'no name'} and not for {min(missing)}; remove it and {key}, "
                    "run this again, and let the other machines join again, because they trust the old one"
                )
        else:
            make_certificate(cert, key, [*hosts, "localhost", "127.0.0.1"])
            say(t("setup.written", path=cert), t("setup.written", path=key))
        settings |= {"tls_cert": cert, "tls_key": key}
    arguments = [*(["--state", str(state)] if args.state is not None else []), *_money_of(setup.arguments)]
    return configure(
        "hub", public=public, settings=settings, base=args.folder, as_service=args.service, arguments=arguments
    )


def _depot(args: argparse.Namespace) -> Done:
    """The depot of a new hub, on the same machine and with the same certificate."""
    hub_settings, setup = load({}, folder=folder_of("hub", args.folder)), recorded(folder_of("hub", args.folder))
    host = addresses.host_of(setup.public if setup is not None else "")
    listens = (hub_settings.listen or ("0.0.0.0", 0))[0]  # noqa: S104 - as the hub
    secure = hub_settings.tls_cert is not None or (setup is not None and setup.public.startswith("wss:"))
    own = {
        "role": "depot", "public": None, "tls_cert": hub_settings.tls_cert, "tls_key": hub_settings.tls_key,
        "listen": addresses.at_port(listens, options.DEPOT_PORT),
        "public_url": f"{'https' if secure else 'http'}://{addresses.at_port(host, options.DEPOT_PORT)}",
    }  # fmt: skip
    return _beside_the_hub(argparse.Namespace(**{**vars(args), **own}))


def _codes(args: argparse.Namespace) -> Iterator[str]:
    invites, public = Invites(hub.book_here(args, args.folder).documents), hub.public_url(None, args.folder)
    for role in INVITED:
        yield from invite.lines(invites.create(role, time.time(), public=public))


def _beside_the_hub(args: argparse.Namespace) -> Done:
    """Set up another role on the hub's machine, which needs no code."""
    setup = recorded(folder_of("hub", args.folder))
    if setup is None:
        raise SettingsError(
            f"no hub was set up here; get a code there with `wakestream invite {args.role}`, then `wakestream join`"
        )
    hub_settings = load({}, folder=folder_of("hub", args.folder))
    settings = options.settings_of(Invited(args.role, addresses.host_of(setup.public) or "127.0.0.1"), args)
    before = recorded(folder_of(args.role, args.folder))
    if before is not None and "gpu" in settings:
        _check_same_gpu(args, settings["gpu"])
    money = _money(args, settings["gpu"]) if args.role == "monitor" else []
    port = hub_settings.listen[1] if hub_settings.listen is not None else addresses.port_of(setup.public)
    url = addresses.hub_url(f"{'https' if hub_settings.tls_cert else 'http'}://localhost:{port}")
    certificate = hub_settings.tls_cert.read_text(encoding="ascii") if hub_settings.tls_cert is not None else ""
    key_file = folder_of(args.role, args.folder) / KEY
    if before is not None and before.license and key_file.exists():  # the same again
        license_id, key = before.license, key_file.read_text(encoding="ascii").strip()
    else:
        gpus = [settings["gpu"]] if "gpu" in settings else []
        license_, key = hub.book_here(args, args.folder).issue(args.role, "init", time.time(), gpus)
        license_id = license_.id
    if money:
        # The hub of this machine gets the price and the budget of a GPU at its next start.
        others = _money_of(setup.arguments, money[1].partition("=")[0])
        kept = setup.arguments[: len(setup.arguments) - len(_money_of(setup.arguments))]  # they are always last
        setup.arguments = [*kept, *others, *money]
        unit, _ = service("hub", folder_of("client", args.folder), setup.arguments)
        write(folder_of("hub", args.folder), setup, [unit] if str(unit.path) in setup.files else [])
        say(t("setup.money", arguments=shlex.join(money)))
    return configure(
        args.role, url, key, license_id, certificate, settings=settings, base=args.folder, as_service=args.service,
        arguments=options.depot_arguments(args) if args.role == "depot" else (),
    )  # fmt: skip


def _check_same_gpu(args: argparse.Namespace, gpu: str) -> None:
    """Refuse another GPU than that of the program that is set up already, whose key is for that one."""
    folder = folder_of(args.role, args.folder)
    if (other := load({}, folder=folder).gpu) != gpu:
        raise SettingsError(
            f"{folder} has the {args.role} of the GPU {other}; for {gpu} too, use `wakestream invite {args.role} "
            f"--gpu {gpu}` and `wakestream join` with a --folder of its own, or first `wakestream leave {args.role}`"
        )


MONEY = ("--price-per-hour", "--gpu-budget")


def _money(args: argparse.Namespace, gpu: str) -> list[str]:
    """The price and the budget of a GPU as arguments of the hub, which are checked as it would."""
    price = args.price_per_hour or optional("--price-per-hour")
    budget = args.budget_per_day or optional("--budget-per-day")
    given = zip(MONEY, (price and f"{gpu}={price}", budget and f"{gpu}={budget}/"), strict=True)
    words = [word for flag, value in given if value for word in (flag, value)]
    parsing = argparse.ArgumentParser(exit_on_error=False)
    hub.arguments(parsing)
    try:
        parsing.parse_args(words)
    except argparse.ArgumentError as error:
        raise SettingsError(str(error)) from None
    return words


def _money_of(arguments: Sequence[str], but: str = "") -> list[str]:
    """The prices and budgets among a hub's arguments, without those of one GPU."""
    of_gpus = [pair for pair in pairwise(arguments) if pair[0] in MONEY and pair[1].partition("=")[0] != but]
    return [word for pair in of_gpus for word in pair]
