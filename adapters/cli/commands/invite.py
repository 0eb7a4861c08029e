"""`wakestream invite`: a code with which another machine joins this hub."""

from __future__ import annotations

import argparse
import datetime
import sys
import time

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands import hub
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.hub.invites import Invite, Invites
from wakestream.adapters.hub.license_entries import INVITED_ROLES, ROLES
from wakestream.adapters.hub.operator.actions import join_command
from wakestream.adapters.net import qr_code
from wakestream.adapters.runtime.printing import draw, say, say_json

EXAMPLES = ("invite worker --gpu studio", "invite client --note alice", "invite client --public hub.example --qr")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The role, and what the license is for."""
    parser.add_argument("role", metavar="ROLE", choices=ROLES, help=", ".join(INVITED_ROLES))
    flags.add(parser, "--note TEXT", "a note, such as a person's name", default="")
    text = "reserve this GPU for the key of a worker or monitor; may be repeated"
    flags.add(parser, "--gpu NAME", text, action="append", default=[])
    flags.add(parser, "--public URL", "the hub's address, or those of a cluster (default: as for `init hub`)")
    flags.add(parser, "--qr", "also as a QR code with the command that joins")
    flags.add(parser, "--json", "as a JSON object")
    hub.state(parser)


def run(args: argparse.Namespace) -> int:
    """Make a code. A running hub knows it at once."""
    public = hub.public_url(args.public)
    if args.qr:
        _check_qr(public)
    invite = Invites(hub.book_here(args).documents).create(args.role, time.time(), args.note, args.gpu, public)
    if args.json:
        say_json({"code": str(invite.code), "role": invite.role, "until": invite.until, "hub": public})
    else:
        say(*lines(invite))
        if args.qr:
            draw("\n".join(qr_code.lines(join_command(invite), colour=sys.stdout.isatty())))
    return exit_codes.DONE


def _check_qr(public: str) -> None:
    """Before a code is made."""
    if not public:
        raise SettingsError("--qr needs the hub's address for the other machine; give --public URL")
    try:
        qr_code.lines(public + " " * 64, colour=False)  # the command around the address is shorter
    except ValueError:
        raise SettingsError(f"--qr: an address of {len(public)} characters does not fit into a QR code") from None
    try:
        qr_code.HALVES.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        raise SettingsError("--qr: this output cannot show a QR code; set PYTHONUTF8=1, or leave --qr out") from None


def lines(invite: Invite) -> list[str]:
    """The code, until when it is good, and what to type on the other machine."""
    at = datetime.datetime.fromtimestamp(invite.until).astimezone().strftime("%H:%M")
    return [t("invite.code", code=invite.code, role=invite.role, at=at), t("invite.join", command=join_command(invite))]
