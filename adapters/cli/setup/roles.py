"""What each role needs: the files of its settings, made from the answers."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.setup.files import Setup, Wanted, check_ours, folder_of, is_ours, recorded, toml, write
from wakestream.adapters.cli.setup.service import service

KEY = "wakestream.key"
CERTIFICATE = "hub.pem"
SETTINGS = "wakestream.toml"
TLS = "tls"
"""The entry of a worker's settings for a certificate that the hub signs."""

OWN = ("worker.pem", "worker.key")
"""The files of such a certificate and its key."""

SECRETS = "secrets"
"""The entry of a role's settings that has credentials by variable; they come into a private file, `.env`."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What set-up knows.

    Attributes:
        role: The role.
        hub: The hub's address; empty for the hub itself.
        key: The license key; empty for the hub itself.
        license: The id of the license.
        certificate: The hub's own certificate (PEM); empty if an authority has signed it.
        public: The hub's address for others, for the hub itself.
        settings: Further settings by name.
        base: The folder of the user's own settings; None for the usual one.
        as_service: Whether the program is to be a service.
        arguments: The arguments that the program needs beside its settings.
        code: The public half of the code that was used; empty for none.
        own: A worker's certificate that the hub signed, and its key (PEM); empty for none.
    """

    role: str
    hub: str = ""
    key: str = ""
    license: str = ""
    certificate: str = ""
    public: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: Path | None = None
    as_service: bool = False
    arguments: Sequence[str] = ()
    own: Sequence[str] = ()
    code: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What set-up has done: the files with `written` or `kept`, and the command that starts the service, if any."""

    files: list[tuple[Path, str]]
    start: str = ""
    arguments: Sequence[str] = ()


def check(role: str, base: Path | None) -> None:
    """Raise `SettingsError` if a file of the user's is where set-up of this role would write."""
    folder = folder_of(role, base)
    setup = recorded(folder) or Setup(role)
    for name in (KEY, CERTIFICATE, SETTINGS, *OWN):
        check_ours(folder / name, setup.files)


def configure(answers: Answers) -> Done:
    """Write the files of a role. The same answers again change nothing.

    Raises:
        SettingsError: A file is there that set-up did not write, or cannot be written.
    """
    folder = folder_of(answers.role, answers.base)
    setup = recorded(folder) or Setup(answers.role)
    setup.arguments = [*answers.arguments]
    setup.public, setup.license = answers.public or setup.public, answers.license or setup.license
    setup.code = answers.code or setup.code
    values = {
        "hub": answers.hub or None,
        "key_file": KEY if answers.key else None,
        "ca": CERTIFICATE if answers.certificate else None,
        **answers.settings,
        **(dict(zip(("tls_cert", "tls_key"), OWN, strict=True)) if answers.own else {}),
    }
    typed: Mapping[str, str] = values.pop(SECRETS, {})
    files = []
    if answers.key:
        files.append(Wanted(folder / KEY, answers.key + "\n", private=True))
    if answers.certificate:
        files.append(Wanted(folder / CERTIFICATE, answers.certificate))
    for name, content in zip(OWN, answers.own, strict=False):
        files.append(Wanted(folder / name, content, private=name.endswith(".key")))
    if answers.role == "worker" and is_ours(folder / ".env", setup.files):
        files.append(_secret(folder))
    if typed:
        content = "".join(f"{name}={value}\n" for name, value in typed.items())
        files.append(Wanted(folder / ".env", content, private=True))
    heading = f"The settings of this {answers.role}. `wakestream leave {answers.role}` removes this file."
    files.append(Wanted(folder / SETTINGS, toml(heading, values)))
    start = ""
    if answers.as_service:
        unit, start = service(answers.role, folder_of("client", answers.base), answers.arguments)
        files.append(unit)
    return Done(write(folder, setup, files), start, answers.arguments)


def _secret(folder: Path) -> Wanted:
    """The secret that guards a worker against callers without a job; one of an earlier set-up stays."""
    path = folder / ".env"
    if path.exists():
        return Wanted(path, path.read_text(encoding="utf-8"), private=True)
    return Wanted(path, f"HEYGEM_API_SECRET={secrets.token_urlsafe(24)}\n", private=True)


def lines_of(role: str, done: Done, folder: Path | None = None) -> Iterator[str]:
    """Lines for people. `folder` is the one that the user gave for the settings."""
    for path, what in done.files:
        yield t(f"setup.{what}", path=path)
    if done.start:
        yield t("setup.service", command=done.start)
    elif role == "client":
        yield t("setup.client")
    else:
        own = [role, *done.arguments] if folder is None else ["up", "--folder", str(folder)]
        yield t("setup.start", command=shlex.join(["wakestream", *own]))
