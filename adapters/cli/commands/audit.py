"""`wakestream audit`: who has which license, for which GPUs, when and from where it was last used, what it may do."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands import hub
from wakestream.adapters.cli.commands.license import day
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import License
from wakestream.adapters.runtime.printing import say, say_json

EXAMPLES = ("audit", "audit --json --state /var/lib/wakestream/hub")

_MAY = {
    "client": ("wake_gpus", "run_jobs", "cancel_own_jobs"),
    "admin": ("wake_gpus", "run_jobs", "cancel_own_jobs", "see_all", "manage_licenses"),
    "worker": ("serve_gpus", "give_results"),
    "monitor": ("report_gpus", "switch_gpus"),
    "depot": ("keep_files",),
    "front": ("keep_connections",),
}
"""What each role may do, in words for programs."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--json", "one JSON object for each license")
    hub.state(parser)


def run(args: argparse.Namespace) -> int:
    """Read what the hub of this folder knows, running or not, and print it."""
    book = hub.book_here(args)
    licenses, uses, folder = book.all(), LicenseUses.of_folder(book.documents), book.documents.place
    if args.json:
        for license_ in licenses:
            say_json(_entry(license_, uses))
    else:
        say(*_as_table(licenses, uses, str(folder)))
    return exit_codes.DONE


def _held(license_: License, uses: LicenseUses) -> list[str]:
    if license_.revoked is not None:
        return []
    return sorted(lease.gpu for lease in uses.held if (lease.license, lease.role) == (license_.id, license_.role))


def _old_key_until(license_: License) -> float | None:
    ends = [key.until for key in license_.all_keys if key.until is not None and key.until > time.time()]
    return max(ends, default=None) if license_.revoked is None else None


def _entry(license_: License, uses: LicenseUses) -> dict[str, Any]:
    use = uses.uses.get(license_.id)
    return {
        "id": license_.id,
        "role": license_.role,
        "note": license_.note,
        "gpus": license_.gpus,
        "held": _held(license_, uses),
        "issued": license_.issued,
        "revoked": license_.revoked,
        "old_key_until": _old_key_until(license_),
        "last_used": use.last if use else None,
        "address": use.address if use else None,
        "may": _MAY[license_.role] if license_.revoked is None else (),
    }


def _as_table(licenses: Sequence[License], uses: LicenseUses, folder: str) -> list[str]:
    if not licenses:
        return [t("license.none", folder=folder)]
    head = ("license.id", "license.role", "license.gpu", "audit.used", "audit.address", "license.note", "audit.may")
    return table([tuple(map(t, head)), *(_row(license_, uses) for license_ in licenses)])


def _row(license_: License, uses: LicenseUses) -> tuple[str, ...]:
    use = uses.uses.get(license_.id)
    gpus = [*license_.gpus, *(t("audit.held", gpu=gpu) for gpu in _held(license_, uses))]
    last, address = (day(use.last), use.address) if use else ("", "")
    return license_.id, license_.role, ", ".join(gpus), last, address, license_.note, _may(license_, uses)


def _may(license_: License, uses: LicenseUses) -> str:
    if license_.revoked is not None:
        return t("audit.may.nothing")
    held = ", ".join(_held(license_, uses))
    gpus = ", ".join(license_.gpus) or (t("audit.more", gpus=held) if held else t("audit.any"))
    may = t(f"audit.may.{license_.role}", gpus=gpus)
    until = _old_key_until(license_)
    return may if until is None else t("audit.old_key", may=may, until=day(until))
