"""What each role needs: the files of its settings, made from the answers."""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.setup import files as setup_files
from wakestream.adapters.cli.setup.service import service
from wakestream.adapters.client.pair import Invited, Paired, invited, pair
from wakestream.adapters.config.addresses import host_of, listen_address
from wakestream.adapters.net.pairing import PairingError, code_from

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
class Done:
    """What set-up has done: the files with `written` or `kept`, and the command that starts the service, if any.

    `changed`: the program had other `arguments` before.
    """

    files: list[tuple[Path, str]]
    start: str = ""
    arguments: Sequence[str] = ()
    changed: bool = False


def check(role: str, base: Path | None) -> None:
    """Raise `SettingsError` if a file of the user's is where set-up of this role would write."""
    folder = setup_files.folder_of(role, base)
    setup = setup_files.recorded(folder) or setup_files.Setup(role)
    for name in (KEY, CERTIFICATE, SETTINGS, *OWN):
        setup_files.check_ours(folder / name, setup.files)


def configure(
    role: str,
    hub: str = "",
    key: str = "",
    license_: str = "",
    certificate: str = "",
    *,
    base: Path | None,
    settings: Mapping[str, Any],
    as_service: bool,
    arguments: Sequence[str] = (),
    public: str = "",
    code: str = "",
    own: Sequence[str] = (),
) -> Done:
    """Write the files of a role. The same answers again change nothing.

    Args:
        role: The role.
        hub: The hub's address; empty for the hub itself.
        key: The license key; empty for the hub itself.
        license_: The id of the license.
        certificate: The hub's own certificate (PEM); empty if an authority has signed it.
        base: The folder of the user's own settings; None for the usual one.
        settings: Further settings by name.
        as_service: Whether the program is to be a service.
        arguments: The arguments that the program needs beside its settings.
        public: The hub's address for others, for the hub itself.
        code: The public half of the code that was used; empty for none.
        own: A worker's certificate that the hub signed, and its key (PEM); empty for none.

    Raises:
        SettingsError: A file is there that set-up did not write, or cannot be written.
    """
    folder = setup_files.folder_of(role, base)
    before = setup_files.recorded(folder)
    setup = before or setup_files.Setup(role)
    changed = before is not None and before.arguments != [*arguments]
    setup.arguments = [*arguments]
    setup.public, setup.license = public or setup.public, license_ or setup.license
    setup.code = code or setup.code
    values = {
        "hub": hub or None,
        "key_file": KEY if key else None,
        "ca": CERTIFICATE if certificate else None,
        **settings,
        **(dict(zip(("tls_cert", "tls_key"), OWN, strict=True)) if own else {}),
    }
    typed: Mapping[str, str] = values.pop(SECRETS, {})
    files = []
    if key:
        files.append(setup_files.SetupFile(folder / KEY, key + "\n", private=True))
    if certificate:
        files.append(setup_files.SetupFile(folder / CERTIFICATE, certificate))
    for name, content in zip(OWN, own, strict=False):
        files.append(setup_files.SetupFile(folder / name, content, private=name.endswith(".key")))
    if role == "worker" and setup_files.is_ours(folder / ".env", setup.files):
        files.append(_secret(folder))
    if typed:
        content = "".join(f"{name}={value}\n" for name, value in typed.items())
        files.append(setup_files.SetupFile(folder / ".env", content, private=True))
    heading = f"The settings of this {role}. `wakestream leave {role}` removes this file."
    files.append(setup_files.SetupFile(folder / SETTINGS, setup_files.toml(heading, values)))
    start = ""
    if as_service:
        unit, start = service(role, setup_files.folder_of("client", base), arguments)
        files.append(unit)
    return Done(setup_files.write(folder, setup, files), start, arguments, changed)


def _secret(folder: Path) -> setup_files.SetupFile:
    """The secret that guards a worker against callers without a job; one of an earlier set-up stays."""
    path = folder / ".env"
    if path.exists():
        return setup_files.SetupFile(path, path.read_text(encoding="utf-8"), private=True)
    return setup_files.SetupFile(path, f"HEYGEM_API_SECRET={secrets.token_urlsafe(24)}\n", private=True)


def lines_of(done: Mapping[str, Done], folder: Path | None = None) -> Iterator[str]:
    """Lines for people: what was done, by role. `folder` is the one that the user gave for the settings."""
    for role, of_role in done.items():
        yield from (t(f"setup.{what}", path=path) for path, what in of_role.files)
        if of_role.changed:
            yield t("setup.restart", command=shlex.join(["wakestream", role, *of_role.arguments]))
    for role, of_role in done.items():
        if of_role.start:
            yield t("setup.service", command=of_role.start)
        elif role == "client":
            yield t("setup.client")
    left = [role for role, of_role in done.items() if not of_role.start and role != "client"]
    if left:
        alone = [left[0], *done[left[0]].arguments] if len(left) == 1 else ["up"]
        own = alone if folder is None else ["up", "--folder", str(folder)]
        yield t("setup.start", command=shlex.join(["wakestream", *own]))


# Joins a hub with a code: gets the key, and writes the settings of its role.

ADMIN, CLIENT = "admin", "client"
"""An admin's machine is a client's whose key can do more."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it.

    Attributes:
        paired: What the hub gave.
        done: The files that were written.
        settings: The settings of its program.
        replaced: The license that was used here before; empty if it is the same, or there was none.
    """

    paired: Paired
    done: Done
    settings: Mapping[str, Any]
    replaced: str = ""


async def join(
    address: str,
    code: str,
    settings_of: Callable[[Invited], Mapping[str, Any]],
    base: Path | None = None,
    *,
    only: str = "",
    as_service: Callable[[str], bool] = lambda _: False,
    arguments: Sequence[str] = (),
) -> Joined:
    """Join the hub at an address.

    Args:
        address: The hub: HOST, HOST:PORT or its URL; more of a cluster after commas.
        code: The code that `wakestream invite` printed.
        settings_of: Returns the settings for what the code is for, for example by asking for them. It raises
            `SettingsError` for flags of another role.
        base: The folder of the user's own settings; None for the usual one.
        only: The only role that can be used here; a code for another one is not used up.
        as_service: Returns whether the program of a role is to be a service.
        arguments: The arguments of the program, if it is a depot.

    Raises:
        PairingError: The code is wrong, used, too old or for another role, or no hub answers.
        SettingsError: A file is there that set-up did not write, or an answer is missing.
    """
    given = code_from(code)
    for place in setup_files.ROLES:
        if (setup := setup_files.recorded(setup_files.folder_of(place, base))) is not None and setup.code == given.name:
            new = f"for other settings make a new one at the hub, with `wakestream invite {place}`"
            raise PairingError(f"this machine has used this code before, as a {place}; nothing was changed; {new}")
    is_for = await invited(address, given)
    role = is_for.role
    if only and role != only:
        raise PairingError(f"this code is for a {role}; use it on that machine, with `wakestream join`")
    settings = dict(settings_of(is_for))
    place = CLIENT if role == ADMIN else role
    check(place, base)  # before the code is used up
    listen = listen_address(settings["listen"]) if "listen" in settings else None
    key = request = ""
    if settings.pop(TLS, False) and listen is not None:
        from wakestream.adapters.net.certificates import make_request

        key, request = make_request(host_of(settings["public_url"]) if settings["public_url"] else listen[0])
    paired = await pair(address, given, None if listen is None else partial(_opened, *listen), request)
    if paired.role != role:
        raise PairingError("the hub named another role before; someone may stand in between")
    if paired.gpus and settings.get("gpu") not in paired.gpus:  # a hub of an earlier version did not say it before
        settings["gpu"] = paired.gpus[0]
    before = setup_files.recorded(setup_files.folder_of(place, base))
    done = configure(
        place, paired.hub_url, paired.key, paired.license, paired.certificate,
        settings=settings, base=base, as_service=as_service(place), own=(paired.signed, key) if key else (),
        code=given.name, arguments=arguments if place == "depot" else (),
    )  # fmt: skip
    replaced = before.license if before is not None and before.license != paired.license else ""
    return Joined(paired, done, settings, replaced)


@asynccontextmanager
async def _opened(host: str, port: int) -> AsyncIterator[int]:
    """A listener as the worker's will be: whether a firewall or a router lets others in."""
    async with AsyncExitStack() as stack:
        with suppress(OSError):  # the worker listens there already, or the hub's answer says more
            await stack.enter_async_context(await asyncio.start_server(lambda _, w: w.close(), host, port))
        yield port
