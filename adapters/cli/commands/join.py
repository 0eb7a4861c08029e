"""`wakestream join HOST CODE`: sets this machine up for a hub, with a code of `wakestream invite`."""

from __future__ import annotations

import argparse
import asyncio

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import begin
from wakestream.adapters.cli.setup import options, present
from wakestream.adapters.cli.setup.files import ROLES, folder_of, recorded
from wakestream.adapters.cli.setup.roles import Answers, check, configure
from wakestream.adapters.client.pair import invited_role, pair
from wakestream.adapters.net.pairing import PairingError, code_from
from wakestream.adapters.runtime.printing import say

EXAMPLES = (
    "join hub.example:8765 7F3K-92QD",
    "join hub.example:8765 4MXD-81WA --gpu studio --service",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The hub, the code, and the answers that its role needs."""
    parser.add_argument("hub", metavar="HOST", help="the hub: HOST, HOST:PORT or its URL")
    parser.add_argument("code", metavar="CODE", help="the code that `wakestream invite` printed")
    options.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Get a key by the code, and write the settings."""
    code, address = code_from(args.code), args.hub
    args.hub = None
    begin(args)
    role = asyncio.run(invited_role(address, code))
    settings = options.settings_of(role, args)
    if role in ROLES:
        check(role, args.folder)  # before the code is used up
    paired = asyncio.run(pair(address, code))
    if paired.role != role:
        raise PairingError("the hub named another role before; someone may stand in between")
    if role not in ROLES:
        say(t("join.key", role=role, hub=paired.hub_url), error=True)
        say(paired.key)
        return exit_codes.DONE
    settings |= {"gpu": paired.gpus[0]} if paired.gpus and args.gpu is None else {}
    before = recorded(folder_of(role, args.folder))
    answers = Answers(
        role, paired.hub_url, paired.key, paired.license, paired.certificate,
        settings=settings, base=args.folder, as_service=args.service,
    )  # fmt: skip
    done = configure(answers)
    say(t("join.done", role=role, hub=paired.hub_url))
    if before is not None and before.license and before.license != paired.license:
        say(t("leave.license", license=before.license))
    say(*present.lines(role, done, args.folder))
    return exit_codes.DONE
