"""Joins a hub with a code: gets the key, and writes the settings of its role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wakestream.adapters.cli.setup.files import ROLES, folder_of, recorded
from wakestream.adapters.cli.setup.roles import Answers, Done, check, configure
from wakestream.adapters.client.pair import Paired, invited_role, pair
from wakestream.adapters.net.pairing import PairingError, code_from


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it.

    Attributes:
        paired: What the hub gave.
        done: The files that were written; None for a role without settings, whose key is in `paired`.
        replaced: The license that was used here before; empty if it is the same, or there was none.
    """

    paired: Paired
    done: Done | None
    replaced: str = ""


async def join(
    address: str,
    code: str,
    settings_of: Callable[[str], Mapping[str, Any]],
    base: Path | None = None,
    *,
    gpu: str | None = None,
    only: str = "",
    as_service: bool = False,
) -> Joined:
    """Join the hub at an address.

    Args:
        address: The hub: HOST, HOST:PORT or its URL.
        code: The code that `wakestream invite` printed.
        settings_of: Returns the settings of a role, for example by asking for them.
        base: The folder of the user's own settings; None for the usual one.
        gpu: The GPU's name, if the user gave one; otherwise that of the hub is used.
        only: The only role that can be used here; a code for another one is not used up.
        as_service: Whether the program is to be a service.

    Raises:
        PairingError: The code is wrong, used, too old or for another role, or no hub answers.
        SettingsError: A file is there that set-up did not write, or an answer is missing.
    """
    given = code_from(code)
    role = await invited_role(address, given)
    if only and role != only:
        raise PairingError(f"this code is for a {role}; use it on that machine, with `wakestream join`")
    settings = dict(settings_of(role))
    if role in ROLES:
        check(role, base)  # before the code is used up
    paired = await pair(address, given)
    if paired.role != role:
        raise PairingError("the hub named another role before; someone may stand in between")
    if role not in ROLES:
        return Joined(paired, None)
    if paired.gpus and gpu is None:
        settings["gpu"] = paired.gpus[0]
    before = recorded(folder_of(role, base))
    answers = Answers(
        role, paired.hub_url, paired.key, paired.license, paired.certificate,
        settings=settings, base=base, as_service=as_service,
    )  # fmt: skip
    done = configure(answers)
    replaced = before.license if before is not None and before.license != paired.license else ""
    return Joined(paired, done, replaced)
