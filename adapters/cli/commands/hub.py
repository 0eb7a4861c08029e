"""`wakestream hub`: the always-on server between clients, monitors and workers."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wakestream.adapters.cli import flags

if TYPE_CHECKING:
    from wakestream.adapters.hub.licenses import LicenseBook

HELP = "run the hub: the always-on server that queues jobs and wakes the GPU"
EXAMPLES = (
    "hub --listen 127.0.0.1:8765 --state /var/lib/wakestream/hub",
    "hub --listen 0.0.0.0:443 --tls-cert hub.pem --tls-key hub.key --price-per-hour 1.20",
    "hub --log-file /var/log/wakestream/hub.log --metrics 127.0.0.1:9090",
)
DEFAULT_LISTEN = "127.0.0.1:8765"
JOURNAL = "hub.sqlite3"
RESERVE = 16 * 1024 * 1024
"""Bytes of the disk that are kept for the journal of jobs already taken."""
OPEN_ROLES = ("worker", "monitor")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The hub's own flags."""
    flags.listen(parser, DEFAULT_LISTEN)
    flags.tls(parser)
    flags.behind_proxy(parser)
    state(parser)
    parser.add_argument(
        "--open-roles",
        metavar="ROLES",
        type=_roles,
        default=frozenset(),
        help="worker, monitor or worker,monitor: let such peers in without a token, as old ones need (unsafe)",
    )
    parser.add_argument(
        "--per-license", metavar="N", type=_number, default=200, help="connections of one license (default 200)"
    )
    parser.add_argument(
        "--per-address",
        metavar="N",
        type=_number,
        default=500,
        help="connections from one address (default 500); behind a proxy see --behind-proxy",
    )
    parser.add_argument(
        "--price-per-hour",
        metavar="[GPU=]PRICE",
        type=_price,
        action="append",
        default=[],
        help="what an hour of a GPU costs, in whatever money: 1.20 for each, studio=2.50 for one; may be repeated",
    )
    flags.record(parser)
    flags.program(parser)


def state(parser: argparse.ArgumentParser) -> None:
    """`--state DIR`, the hub's folder."""
    parser.add_argument(
        "--state", metavar="DIR", type=Path, default=None, help="the hub's folder (default: the user's data folder)"
    )


def folder(given: Path | None) -> Path:
    """The hub's folder; the same by default for `hub` and `license`."""
    if given is not None:
        return given.expanduser()
    from wakestream.adapters.disk.path_key import data_folder

    return data_folder("hub")


def _roles(text: str) -> frozenset[str]:
    roles = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not roles <= set(OPEN_ROLES):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(OPEN_ROLES)}, separated by commas")
    return roles


def _price(text: str) -> tuple[str | None, float]:
    name, named, number = text.rpartition("=")
    try:
        price = float(number)
    except ValueError:
        price = -1.0
    if not 0.001 <= price < 1e6 or (named and not name):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no price; write 1.20, or studio=2.50 for one GPU")
    return name or None, price


def _prices(given: list[tuple[str | None, float]]) -> dict[str, Any]:
    of_one = {name: price for name, price in given if name is not None}
    return {"price": next((price for name, price in reversed(given) if name is None), None), "prices": of_one}


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text[:9]) > 0 or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 0")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    import asyncio
    import contextlib
    import dataclasses
    import time

    from wakestream.adapters.cli.service import announce, begin, listening, run_program, serve_metrics
    from wakestream.adapters.disk.journal import SqliteJournal, open_journal
    from wakestream.adapters.disk.state_folder import make_private
    from wakestream.adapters.hub.license_uses import LicenseUses
    from wakestream.adapters.hub.licenses import LicenseBook
    from wakestream.adapters.hub.server import MAX_CONNECTIONS, open_hub
    from wakestream.adapters.net.capabilities import Signer
    from wakestream.adapters.net.connection_limits import STRANGERS, Room
    from wakestream.adapters.net.tls import server_tls, warn_unless_private
    from wakestream.adapters.runtime.gc_tuning import SERVER, few_collections
    from wakestream.adapters.runtime.rlimits import connections_allowed
    from wakestream.adapters.telemetry.recorder import recording
    from wakestream.streams.hub.events import Fact
    from wakestream.streams.hub.hub import Limits
    from wakestream.streams.recording.config_json import plain_config

    settings = begin(args)
    state = folder(args.state)
    make_private(state)
    book = LicenseBook(state)
    _warn(book, args.open_roles)
    tls = server_tls(settings.tls_cert, settings.tls_key)
    address = flags.listen_on(settings, DEFAULT_LISTEN)
    warn_unless_private(address[0], tls)
    signer = Signer.of_folder(state)

    async def serve(stop: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as stack:
            limits = Limits(open_roles=args.open_roles, per_license=args.per_license, per_address=args.per_address)
            limits = dataclasses.replace(limits, **_prices(args.price_per_hour))
            tap = stack.enter_context(recording(settings.record, "hub", 0, {"policy": plain_config(limits)}))
            journal: SqliteJournal[Fact] = await stack.enter_async_context(
                open_journal(state / JOURNAL, Fact, program="hub")
            )
            with listening(*address):
                hub = await stack.enter_async_context(
                    open_hub(
                        *address,
                        book=book,
                        journal=journal,
                        limits=limits,
                        tap=tap,
                        disk_low=partial(_low, state),
                        room=Room.of(connections_allowed(MAX_CONNECTIONS + STRANGERS)),
                        signer=signer,
                        tls=tls,
                        steady=time.monotonic,
                        proxies=args.behind_proxy,
                        uses=LicenseUses.of_folder(state),
                    )
                )
            if settings.metrics is not None:
                from wakestream.adapters.hub.metrics import HubMetrics

                await serve_metrics(stack, settings.metrics, HubMetrics(hub, journal, state))
            stack.enter_context(few_collections(*SERVER))
            announce("hub", hub.url)
            await hub.until(stop)

    return run_program(serve, exit_with_stdin=args.exit_with_stdin)


def _low(folder: Path) -> bool:
    import shutil

    return shutil.disk_usage(folder).free < RESERVE


def _warn(book: LicenseBook, open_roles: frozenset[str]) -> None:
    from loguru import logger

    if not book.all():
        logger.warning("no license was issued yet, so nobody can register; use `wakestream license issue`")
    if open_roles:
        who = " and ".join(sorted(open_roles))
        logger.warning("--open-roles: anybody who reaches this port can be {}; use it in a closed network only", who)
