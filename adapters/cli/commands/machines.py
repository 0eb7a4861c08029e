"""`wakestream machines`: the machines of an account at a power provider, so that users need not search for an id."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.hub_answers import hub_status
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.cli.service import begin
from wakestream.adapters.cli.setup.options import machine_row
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.power.config import Machine, Provider, make_power, power_config
from wakestream.adapters.runtime.printing import say, say_json

EXAMPLES = (
    "machines --power runpod",
    "machines --power runpod --orphans --key-file admin.key",
    "machines --power compshare --power-option zone=cn-wlcb-01 --json",
)

_CHEAP = ("stopped", "terminated")
"""States of machines that cost nothing, or their disk only."""

_HEAD = ("id", "name", "state", "gpu", "price", "address")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--json", "one JSON object for each machine")
    flags.add(parser, "--orphans", "only machines that run and that no monitor of the hub names (key of role admin)")
    flags.provider(parser)
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the provider for the list and print it."""
    settings = begin(args, usual_level="CRITICAL")
    name = settings.needs_power()
    machines = asyncio.run(_listed(make_power(name, power_config(settings, only_list=True))))
    if args.orphans:
        # The machines that run, or may, and that no monitor of this hub names.
        answer = asyncio.run(hub_status(settings, args.state))
        named = {gpu["machine"] for gpu in answer.gpus if "machine" in gpu}
        if not named:
            raise SettingsError(t("names_no_machines"))
        machines = [each for each in machines if each.state not in _CHEAP and not {each.id, each.name} & named]
    if args.json:
        for machine in machines:
            say_json(asdict(machine))
    elif machines:
        rows = [(*machine_row(machine), machine.address or "") for machine in machines]
        say(*table([tuple(t(f"machines.{column}") for column in _HEAD), *rows], right={4}))
    else:
        say(t("no_orphans" if args.orphans else "no_machines", provider=name))
    return exit_codes.DONE


async def _listed(power: Provider) -> Sequence[Machine]:
    try:
        return await power.machines()
    finally:
        await power.close()
