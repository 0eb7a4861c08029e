"""The daemon on this machine: whether one runs, how it fares, and whether its folder can be written to."""

from __future__ import annotations

import errno
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from wakestream.adapters.cli.doctor.local import LITTLE_SPACE, written_to
from wakestream.adapters.cli.doctor.result import CheckResult, fault, ok, skipped, warning
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon.api_client import open_daemon_client


async def daemon_stands(found: Settings, state: Path | None) -> AsyncIterator[CheckResult]:
    """The one whose folder is `state`, if any is to be looked at."""
    if state is None:
        return
    trouble = _unusable(state)
    if trouble is not None:
        yield trouble
        return
    async with open_daemon_client(state) as client:
        said = await client.look()
    if said is None:
        yield skipped("daemon", t("doctor.no_daemon", folder=state))
    elif found.hub_url is not None and said.get("hub") != found.hub_url:
        says = t("doctor.daemon_elsewhere", hub=said.get("hub"), ours=found.hub_url)
        yield warning("daemon", says, t("doctor.daemon_elsewhere.do"))
    elif not said.get("connected"):
        yield warning("daemon", t("doctor.daemon_alone", hub=said.get("hub")), t("doctor.daemon_alone.do"))
    else:
        yield ok("daemon", t("doctor.daemon", version=said.get("version"), hub=said.get("hub")))


def _unusable(state: Path) -> CheckResult | None:
    """What is wrong with the folder, or with the one in which it would be made."""
    there = state
    try:
        there = next((folder for folder in (state, *state.parents) if folder.exists()), state)
        written_to(there)
        free = shutil.disk_usage(there).free
    except OSError as error:
        says = t("doctor.folder", folder=there, why=error.strerror or error)
        todo = t("doctor.daemon_space.do") if error.errno == errno.ENOSPC else t("doctor.daemon_folder.do")
        return fault("daemon", says, todo)
    if free < LITTLE_SPACE:
        says = t("doctor.little_space", folder=there, free=f"{free / 1e9:.1f}")
        return warning("daemon", says, t("doctor.daemon_space.do"))
    return None
