"""What an operator can do on the page, by the same functions as `wakestream license` and `wakestream invite`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger

from wakestream.adapters.config.addresses import HUB_PATH
from wakestream.adapters.hub.invites import Invite, Invites
from wakestream.adapters.hub.license_entries import License
from wakestream.adapters.hub.licenses import LicenseBook, LicenseError
from wakestream.adapters.net.qr_code import svg

PART: Final = 100
"""Licenses in one answer."""

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Actions:
    """The calls of the page by name. They read and write files, so they are run in a thread.

    Attributes:
        book: The licenses.
        invites: The invitations.
        public: The hub's address for others, or those of its cluster; empty if it is unknown.
        now: Gives UNIX seconds.
    """

    book: LicenseBook
    invites: Invites
    public: str = ""
    now: Callable[[], float] = time.time

    def call(self, name: str, given: Given, license_: str, host: str) -> Any:
        """Do what a page asks for.

        Args:
            name: The call.
            given: Its arguments.
            license_: The license of the operator, for the log.
            host: Where the operator's browser reached the hub.

        Raises:
            LicenseError: It cannot be done, and why.
        """
        match name:
            case "licenses":
                return self.licenses(_text(given, "search"), _number(given, "most"))
            case "issue":
                return self._issue(given, license_)
            case "revoke":
                return self._revoke(given, license_)
            case "invite":
                asked = _text(given, "role"), self.now(), _text(given, "note"), _names(given), self.public
                invite = self.invites.create(*asked)
                logger.info("a code for a {} was made on the page by license {}", invite.role, license_, stage="hub")
                return {"invite": self._shown(invite, host), "svg": svg(join_command(invite, host))}
            case "qr":
                known = self.invites.find(_text(given, "code").partition("-")[0], self.now())
                if known is None:
                    raise LicenseError("this code was used or is too old; make a new one")
                return {"svg": svg(join_command(known, host))}
        raise LicenseError(f"there is no call {name[:40]!r}; load the page again")

    def licenses(self, search: str, most: int = PART) -> dict[str, Any]:
        """The newest licenses whose id, role, note or GPUs contain each word of `search`, and how many there are."""
        words = search.lower().split()
        every = self.book.all()
        matching = [license_ for license_ in reversed(every) if all(word in _searched(license_) for word in words)]
        return {"rows": [_row(license_) for license_ in matching[:most]], "found": len(matching), "all": len(every)}

    def pending(self, host: str) -> list[dict[str, Any]]:
        """The codes that are valid, the newest first."""
        return [self._shown(invite, host) for invite in reversed(self.invites.valid(self.now()))]

    def _issue(self, given: Given, by: str) -> dict[str, Any]:
        license_, key = self.book.issue(_text(given, "role"), _text(given, "note"), self.now(), _names(given))
        logger.info("license {} ({}) was issued on the page by license {}", license_.id, license_.role, by, stage="hub")
        return {"key": key, "license": _row(license_)}

    def _revoke(self, given: Given, by: str) -> dict[str, Any]:
        license_ = self.book.revoke(_text(given, "id"), self.now())
        logger.info("license {} was revoked on the page by license {}", license_.id, by, stage="hub")
        return {"license": _row(license_)}

    def _shown(self, invite: Invite, host: str) -> dict[str, Any]:
        return {
            "code": str(invite.code), "role": invite.role, "note": invite.note, "gpus": invite.gpus,
            "until": invite.until, "command": join_command(invite, host),
        }  # fmt: skip


def join_command(invite: Invite, host: str = "HUB") -> str:
    """What to type on the machine that is invited; `host` stands for an unknown address of the hub."""
    known = ",".join(url.partition("://")[2].removesuffix(HUB_PATH) for url in invite.public.split(","))
    return f"wakestream join {known or host} {invite.code}"


def _row(license_: License) -> dict[str, Any]:
    return {name: getattr(license_, name) for name in ("id", "role", "note", "gpus", "issued", "revoked")}


def _searched(license_: License) -> str:
    return " ".join((license_.id, license_.role, license_.note, *license_.gpus)).lower()


def _text(given: Given, name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise LicenseError(f'"{name}" must be a text')
    return value


def _number(given: Given, name: str) -> int:
    value = given.get(name, PART)
    return value if type(value) is int and 0 < value <= 10 * PART else PART


def _names(given: Given) -> Sequence[str]:
    value = given.get("gpus", [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise LicenseError('"gpus" must be a list of names')
    return value
