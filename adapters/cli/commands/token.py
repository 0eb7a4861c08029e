"""`wakestream token`: make, list and remove the tokens of programs that use the daemon's API."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands.license import day
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.daemon.discovery import folder
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.streams.protocol.kinds import check_kind_name

EXAMPLES = (
    "token add shop > shop.token",
    "token add shop --kinds upscale,transcribe --max-per-day 200",
    "token rm shop",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The things to do with tokens."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a token and print it (only once)")
    flags.add(add, "--kinds KIND,...", "the kinds of jobs that the program may use (default: all)", default="")
    text = "predictions that it may start each day, in UTC (default: any number)"
    flags.add(add, "--max-per-day N", text, type=flags.whole(1), default=0)
    listed = actions.add_parser("list", help="show all tokens: the program, what it may do, and how often it did today")
    flags.add(listed, "--json", "one JSON object for each token")
    remove = actions.add_parser("rm", help="remove a token; the program cannot use the API from now on")
    for action in (add, remove):
        action.add_argument("name", metavar="NAME", help="the name of the program")
    for action in (add, listed, remove):
        flags.daemon(action)


def run(args: argparse.Namespace) -> int:
    """Do it at once; a running daemon knows it with the next request."""
    tokens = Tokens(folder(args.state))
    if args.action == "add":
        kinds = tuple(filter(None, args.kinds.split(",")))
        for kind in kinds:
            check_kind_name(kind)
        text = tokens.add(args.name, kinds, args.max_per_day)
        # On standard error, so that `> FILE` gets the token alone.
        say(t("token.made", name=args.name), error=True)
        say(text)
    elif args.action == "rm":
        tokens.remove(args.name)
        say(t("token.removed", name=args.name))
    else:
        _list(tokens, args.json)
    return exit_codes.DONE


def _list(tokens: Tokens, as_json: bool) -> None:
    known = tokens.all()
    if as_json:
        for token in known:
            limits = {"kinds": token.kinds, "max_per_day": token.per_day or None, "today": tokens.used(token)}
            say_json({"name": token.name, "made": token.made, **limits})
        return
    rows = [tuple(t(f"token.{name}") for name in ("name", "kinds", "per_day", "today", "when"))]
    rows += [
        (token.name, ", ".join(token.kinds), str(token.per_day or ""), str(tokens.used(token)), day(token.made))
        for token in known
    ]
    say(*(table(rows) if known else [t("token.none")]))
