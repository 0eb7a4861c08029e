"""Joins a hub with a code: gets the key, and writes the settings of its role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wakestream.adapters.cli.setup.files import ROLES, folder_of, recorded
from wakestream.adapters.cli.setup.roles import TLS, Answers, Done, check, configure
from wakestream.adapters.client.pair import Invited, Paired, invited, pair
from wakestream.adapters.config.addresses import host_of, listen_address
from wakestream.adapters.net.own_certificate import make_request
from wakestream.adapters.net.pairing import PairingError, code_from

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
) -> Joined:
    """Join the hub at an address.

    Args:
        address: The hub: HOST, HOST:PORT or its URL.
        code: The code that `wakestream invite` printed.
        settings_of: Returns the settings for what the code is for, for example by asking for them. It raises
            `SettingsError` for flags of another role.
        base: The folder of the user's own settings; None for the usual one.
        only: The only role that can be used here; a code for another one is not used up.
        as_service: Returns whether the program of a role is to be a service.

    Raises:
        PairingError: The code is wrong, used, too old or for another role, or no hub answers.
        SettingsError: A file is there that set-up did not write, or an answer is missing.
    """
    given = code_from(code)
    for place in ROLES:
        if (setup := recorded(folder_of(place, base))) is not None and setup.code == given.name:
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
        key, request = make_request(host_of(settings["public_url"]) if settings["public_url"] else listen[0])
    paired = await pair(address, given, None if listen is None else partial(_opened, *listen), request)
    if paired.role != role:
        raise PairingError("the hub named another role before; someone may stand in between")
    if paired.gpus and settings.get("gpu") not in paired.gpus:  # a hub of an earlier version did not say it before
        settings["gpu"] = paired.gpus[0]
    before = recorded(folder_of(place, base))
    answers = Answers(
        place, paired.hub_url, paired.key, paired.license, paired.certificate,
        settings=settings, base=base, as_service=as_service(place), own=(paired.signed, key) if key else (),
        code=given.name,
    )  # fmt: skip
    done = configure(answers)
    replaced = before.license if before is not None and before.license != paired.license else ""
    return Joined(paired, done, settings, replaced)


@asynccontextmanager
async def _opened(host: str, port: int) -> AsyncIterator[int]:
    """A listener as the worker's will be: whether a firewall or a router lets others in."""
    async with AsyncExitStack() as stack:
        with suppress(OSError):  # the worker listens there already, or the hub's answer says more
            await stack.enter_async_context(await asyncio.start_server(lambda _, w: w.close(), host, port))
        yield port
