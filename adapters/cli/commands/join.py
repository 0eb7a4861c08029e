"""`wakestream join HOST CODE`: sets this machine up for a hub, with a code of `wakestream invite`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import begin
from wakestream.adapters.cli.setup import options
from wakestream.adapters.cli.setup.roles import ADMIN, CLIENT, Joined, join, lines_of
from wakestream.adapters.cli.setup.service import opens_console
from wakestream.adapters.client.pair import Invited
from wakestream.adapters.config import addresses
from wakestream.adapters.runtime.printing import agrees, say

EXAMPLES = ("join hub.example:8765 7F3K-92QD", "join hub.example:8765 4MXD-81WA --gpu studio --tls --service")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The hub, the code, and the answers that its role needs."""
    parser.add_argument("hub", metavar="HOST", help="the hub: HOST, HOST:PORT or its URL; several after commas")
    parser.add_argument("code", metavar="CODE", help="the code that `wakestream invite` printed")
    options.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Get a key by the code, and write the settings."""
    address, args.hub = args.hub, None
    begin(args)

    def settings_of(is_for: Invited) -> dict[str, Any]:
        return options.settings_of(is_for, args)

    def as_service(role: str) -> bool:
        offered = not args.service and role == CLIENT and agrees(t("join.service"))
        return bool(args.service or offered)

    joined = asyncio.run(
        join(
            address, args.code, settings_of, args.folder, as_service=as_service, arguments=options.depot_arguments(args)
        )
    )
    role, hub = joined.paired.role, joined.paired.hub_url
    say(t(f"join.done.{role}", hub=hub))
    if joined.replaced:
        say(t("leave.license", license=joined.replaced))
    if role in ("worker", "depot"):
        say(*_opened(joined))
    say(*lines_of({CLIENT if role == ADMIN else role: joined.done}, args.folder))
    if role in (CLIENT, ADMIN) and joined.done.start:
        say(t("console.installed", path=opens_console()))
    return exit_codes.DONE


def _opened(joined: Joined) -> Iterator[str]:
    """What a worker or a depot opens, and whether the hub could connect to it."""
    listen, tls = joined.settings["listen"], joined.settings["tls_cert"] or joined.paired.signed
    url, why = joined.settings["public_url"], joined.paired.unreachable
    host, port = addresses.listen_address(listen)
    yield t("join.opens.tls" if tls else "join.opens", listen=listen, url=url or listen)
    if not tls and not addresses.is_loopback(host):
        yield t("join.tls")
    if why is None:
        yield t("join.not_tried")
    else:
        yield t("join.unreachable", port=port, why=why) if why else t("join.reached", port=port)
