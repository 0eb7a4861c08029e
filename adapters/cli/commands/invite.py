"""`wakestream invite`: a code with which another machine joins this hub."""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands import hub
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.setup.files import folder_of, recorded
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.hub.invites import Invite, Invites
from wakestream.adapters.runtime.printing import say, say_json

EXAMPLES = (
    "invite worker --gpu studio",
    "invite client --note alice",
)
ROLES = ("client", "worker", "monitor", "admin")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The role, and what the license is for."""
    parser.add_argument("role", metavar="ROLE", choices=ROLES, help="client, worker, monitor or admin")
    flags.add(parser, "--note TEXT", "a note, such as a person's name", default="")
    flags.add(
        parser,
        "--gpu NAME",
        "reserve this GPU for the key of a worker or monitor; may be repeated",
        action="append",
        default=[],
    )
    flags.add(parser, "--public URL", "the hub's address for that machine (default: the one of `init hub`)")
    flags.add(parser, "--json", "as a JSON object")
    hub.state(parser)


def run(args: argparse.Namespace) -> int:
    """Make a code. A running hub knows it at once."""
    public = public_url(args.public)
    invite = Invites(hub.folder(args.state)).create(args.role, time.time(), args.note, args.gpu, public)
    if args.json:
        say_json({"code": str(invite.code), "role": invite.role, "until": invite.until, "hub": public})
    else:
        say(*lines(invite))
    return exit_codes.DONE


def public_url(given: str | None, base: Path | None = None) -> str:
    """The hub's address for others: the given one, or that of `init hub`; empty if neither is known."""
    if given is not None:
        try:
            return addresses.hub_url(given)
        except ValueError as error:
            raise SettingsError(f"--public {error}") from None
    setup = recorded(folder_of("hub", base))
    return setup.public if setup is not None else ""


def lines(invite: Invite) -> list[str]:
    """The code, until when it is good, and what to type on the other machine."""
    at = datetime.datetime.fromtimestamp(invite.until).astimezone().strftime("%H:%M")
    host = invite.public.partition("://")[2].removesuffix(addresses.HUB_PATH) or "HUB"
    return [
        t("invite.code", code=invite.code, role=invite.role, at=at),
        t("invite.join", command=f"wakestream join {host} {invite.code}"),
    ]
