"""The power providers, by the names that `--power` takes. A new provider is a module of this room and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.power.command import CommandPower
from wakestream.adapters.power.process import ProcessPower
from wakestream.operators.model.ports import Power


class Provider(Power, Protocol):
    """A machine's power; the monitor closes it when it ends."""

    async def close(self) -> None:
        """Free what the provider itself uses. Only `process` also ends the machine."""
        ...


def _process(settings: Settings, _: float) -> ProcessPower:
    if settings.power_program is None:
        raise SettingsError("--power process needs --program CMD, the program that is started and stopped")
    return ProcessPower(settings.power_program)


def _command(settings: Settings, timeout: float) -> CommandPower:
    start, stop, inspect = settings.power_start, settings.power_stop, settings.power_inspect
    if start is None or stop is None or inspect is None:
        raise SettingsError("--power command needs --start CMD, --stop CMD and --inspect CMD")
    # A little less than the call's limit, so that CommandPower, which knows the command's name, ends it.
    return CommandPower(start, stop, inspect, timeout=0.95 * timeout)


PROVIDERS: Mapping[str, Callable[[Settings, float], Provider]] = {
    "process": _process,
    "command": _command,
}
"""Makes each provider from the settings and the time limit of one call, in seconds."""
