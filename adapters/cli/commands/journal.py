"""`wakestream journal`: check the journal of a stopped program, accept a restored one, or copy a hub's."""

from __future__ import annotations

import argparse
from pathlib import Path

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.disk.sqlite_file import FORMAT, SqliteFile
from wakestream.adapters.hub.journal_copy import copy
from wakestream.adapters.runtime.printing import say
from wakestream.operators.model.errors import JournalError

EXAMPLES = (
    "journal check /var/lib/wakestream/hub",
    "journal accept /var/lib/wakestream/hub/hub.sqlite3",
    "journal copy /var/lib/wakestream/hub postgresql://wakestream@db.example/wakestream",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The things to do with journals."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="read all of a journal and compare its checksums; changes nothing")
    check.add_argument("path", type=Path, metavar="PATH", help="a journal, or a program's folder (--state)")
    accept = actions.add_parser("accept", help="continue with a restored journal, although its last facts are missing")
    accept.add_argument("path", type=Path, metavar="FILE", help="the journal")
    copy = actions.add_parser("copy", help="copy a stopped hub's journal and licenses to a database, or back")
    place = "a hub's folder, or the address of a database"
    copy.add_argument("source", metavar="FROM", help=place)
    copy.add_argument("target", metavar="TO", help=f"{place}, which must be empty")


def run(args: argparse.Namespace) -> int:
    """Check, accept or copy; the program that uses the journal must be stopped."""
    if args.action == "copy":
        try:
            content = copy(args.source, args.target)
        except ImportError:
            raise SettingsError('a database needs a library: run pip install "wakestream[postgres]"') from None
        except OSError as error:
            raise JournalError(f"it cannot be copied: {error.strerror or error}") from error
        facts, ledger, documents = (len(each) for each in (content.facts, content.ledger, content.documents))
        text = t(
            "journal.copied", source=args.source, target=args.target, facts=facts, ledger=ledger, documents=documents
        )
        say(text)
        return exit_codes.DONE
    if args.action == "accept":
        file = SqliteFile(args.path, "program", purpose="accept")
        file.close()
        say(t("journal.accepted", file=args.path, n=file.end.seq))
        return exit_codes.DONE
    paths = sorted(args.path.glob("*.sqlite3")) if args.path.is_dir() else [args.path]
    if not paths:
        raise JournalError(f"{args.path} has no journal; name a journal, or the folder of a program")
    return max(map(_checked, paths))


def _checked(path: Path) -> int:
    try:
        file = SqliteFile(path, "program", purpose="check")
    except JournalError as error:
        say(str(error), error=True)
        return exit_codes.FAILED
    if file.format == FORMAT:
        say(t("journal.whole", file=path, n=file.end.seq, rows=file.rows))
    else:
        say(t("journal.old", file=path, n=file.rows, format=file.format))
    return exit_codes.DONE
