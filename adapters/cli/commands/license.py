"""`wakestream license`: issue, import, list, rotate and revoke the keys that a hub lets in."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands import hub
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import clock_time
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.config.setting_files import read_keys
from wakestream.adapters.hub.licenses import ROLES, LicenseBook
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.operators.model.events import MAX_PRIORITY

EXAMPLES = (
    "license issue --role worker --gpu studio > worker.key",
    "license import --role client --key-file old-client/.license",
    "license rotate 22f1386983ff > client.key",
    "license revoke 22f1386983ff",
)

_SAFE = 16
"""Characters below which a key can be guessed."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The things to do with licenses."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    issue = actions.add_parser("issue", help="create a license and print its key (only once)")
    taken = actions.add_parser("import", help="accept keys that users already have")
    tied = "reserve this GPU for the key of a worker or monitor; may be repeated"
    for action, role in ((issue, "role of the key"), (taken, "role of the keys")):
        action.add_argument("--role", required=True, choices=ROLES, help=role)
        flags.add(action, "--note TEXT", "a note, such as a person's name", default="")
        flags.add(action, "--gpu NAME", tied, action="append", default=[])
    change = actions.add_parser("change", help="change the highest priority or the weight of a client's license")
    for action, default in ((issue, 0), (change, None)):
        text = "the highest priority of its jobs, for a client (default 0)"
        flags.add(action, "--max-priority N", text, type=flags.whole(0, MAX_PRIORITY), default=default)
        text = "its share of the GPUs while others wait too, for a client (default 1); 2 is twice as much"
        flags.add(action, "--weight N", text, type=flags.whole(1, 1000), default=default if default is None else 1)
    flags.add(taken, "--key-file FILE", "a .license file, or one key a line (default: standard input)")
    listed = actions.add_parser("list", help="show all licenses, without their keys")
    flags.add(listed, "--json", "one JSON object for each license")
    revoke = actions.add_parser("revoke", help="revoke a license; open connections are closed at once")
    rotate = actions.add_parser("rotate", help="give a license a new key and print it (only once)")
    text = "how long the old key stays valid (default 24h); 0: not at all"
    flags.add(rotate, "--old-key-for TIME", text, type=flags.time_or_zero, default=24 * 3600.0)
    release = actions.add_parser("release", help="release the GPU names that a license reserved by using them")
    for action in (revoke, rotate, release, change):
        action.add_argument("id", metavar="ID", help="the license's id, or its first 4 characters or more")
    for action in (issue, taken, listed, revoke, rotate, release, change):
        hub.state(action)


def run(args: argparse.Namespace) -> int:
    """Do it at once; a running hub notices within about a second."""
    book = hub.book_here(args)
    actions = {
        "issue": _issue, "import": _import, "list": _list, "revoke": _revoke, "rotate": _rotate, "release": _release,
        "change": _change,
    }  # fmt: skip
    actions[args.action](args, book)
    return exit_codes.DONE


def _issue(args: argparse.Namespace, book: LicenseBook) -> None:
    license_, key = book.issue(args.role, args.note, time.time(), args.gpu, args.max_priority, args.weight)
    # On standard error, so that `> FILE` gets the key alone.
    say(t("license.issued", id=license_.id, role=license_.role, folder=book.documents.place), error=True)
    say(key)


def _import(args: argparse.Namespace, book: LicenseBook) -> None:
    keys = read_keys(Path(args.key_file) if args.key_file is not None else None)
    taken = book.admit(keys, args.role, args.note, time.time(), args.gpu)
    said = [t("license.imported", n=len(taken), role=args.role, folder=book.documents.place)]
    said += [t("license.guessable", n=_SAFE)] if any(len(key) < _SAFE for key in keys) else []
    say(*said, error=True)
    say(*(license_.id for license_ in taken))


def _revoke(args: argparse.Namespace, book: LicenseBook) -> None:
    license_ = book.revoke(args.id, time.time())
    say(t("license.revoked", id=license_.id, role=license_.role))


def _rotate(args: argparse.Namespace, book: LicenseBook) -> None:
    now = time.time()
    license_, key = book.rotate(args.id, now, args.old_key_for)
    say(t("license.rotated", id=license_.id, role=license_.role, until=day(now + args.old_key_for)), error=True)
    say(key)


def _release(args: argparse.Namespace, book: LicenseBook) -> None:
    license_ = book.release(args.id, time.time())
    say(t("license.released", id=license_.id, role=license_.role))


def _change(args: argparse.Namespace, book: LicenseBook) -> None:
    license_ = book.change(args.id, args.max_priority, args.weight)
    say(t("license.changed", id=license_.id, priority=license_.max_priority, weight=license_.weight))


def _list(args: argparse.Namespace, book: LicenseBook) -> None:
    if args.json:
        names = ("id", "role", "note", "issued", "revoked", "gpus", "max_priority", "weight")
        for known in book.all():
            say_json({name: getattr(known, name) for name in names})
        return

    if not (licenses := book.all()):
        say(t("license.none", folder=book.documents.place))
        return
    columns = {
        "id": [one.id for one in licenses],
        "role": [one.role for one in licenses],
        "gpu": [", ".join(one.gpus) for one in licenses],
        "priority": [str(one.max_priority) for one in licenses] if any(one.max_priority for one in licenses) else [],
        "weight": [str(one.weight) for one in licenses] if any(one.weight != 1 for one in licenses) else [],
        "when": [day(one.issued) for one in licenses],
        "until": [day(one.revoked) for one in licenses],
        "note": [one.note for one in licenses],
    }
    shown = [(t(f"license.{name}"), *cells) for name, cells in columns.items() if cells]
    say(*table([*zip(*shown, strict=True)]))


def day(at: float | None) -> str:
    """A time as it is shown in a list, to the minute."""
    return "" if at is None else clock_time(at)
